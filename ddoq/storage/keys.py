"""What enters keys in one spelling: precisions, and what a part of a run sees of a dataset."""

from collections.abc import Mapping
from typing import Any

from ddoq.storage.fingerprints import hash_config

# Lightning's short names (lightning.fabric.connector) and what they stand for.
_PRECISIONS = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}

# Of a dataset's description, what decides the training images, their labels and their order.
_IMAGES = (
    "source",
    "classes",
    "num_classes",
    "image_size",
    "limit_per_class",
    "train_images",
    "train_split",
)
_NORMALIZATION = ("mean", "std")


def precision_name(value: Any) -> str:
    """Write a precision as Lightning does after it has read it, so that its aliases share their caches.

    Args:
        value: What ``trainer.precision`` says: an alias, a whole name, or None for the default.

    Returns:
        The whole name.

    Example:
        >>> precision_name(32), precision_name("bf16"), precision_name("16-true"), precision_name(None)
        ('32-true', 'bf16-mixed', '16-true', '32-true')
    """
    text = "32" if value is None else str(value)
    return _PRECISIONS.get(text, text)


def seen_of(description: Mapping[str, Any], *, normalized: bool = False) -> dict[str, Any]:
    """Return what a part that works on training images sees of a dataset.

    Test images, what the dataset and its classes are called, and prompts decide nothing there; mean and deviation do
    where images are normalised.

    Args:
        description: Of the dataset, as :meth:`ddoq.data.ImageDataModule.describe` gives it or a result keeps it.
        normalized: Whether the part sees normalised images.

    Returns:
        Those of its entries.

    Example:
        >>> seen_of({"name": "digits", "source": "a", "mean": [0.5], "test_images": 3}, normalized=True)
        {'source': 'a', 'mean': [0.5]}
    """
    names = (*_IMAGES, *(_NORMALIZATION if normalized else ()))
    return {name: description[name] for name in names if name in description}


def seen_key(description: Mapping[str, Any], *, normalized: bool = False) -> str:
    """Hash what :func:`seen_of` returns: the dataset's part in the keys of caches."""
    return hash_config(seen_of(description, normalized=normalized))
