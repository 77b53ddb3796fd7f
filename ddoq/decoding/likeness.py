"""Whether images of a set differ at all."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

# Root mean square distance from the mean image, of 255 levels, below which nobody tells images from one another.
NEARLY_EQUAL = 2.0

_BLOCK = 256  # images


def spread(images: Tensor) -> float:
    """Measure how far images are from their mean image.

    Args:
        images: uint8 ``(n, c, h, w)``.

    Returns:
        The root of the mean squared distance per value, in levels of 255.

    Example:
        >>> spread(torch.tensor([0, 20], dtype=torch.uint8).reshape(2, 1, 1, 1))
        10.0
    """
    # Levels are whole numbers, of which float64 adds up any set without rounding; in blocks, since sets may be large.
    sums = squares = torch.zeros(images[0].numel(), dtype=torch.float64)
    for block in images.flatten(1).split(_BLOCK):
        values = block.double()
        sums, squares = sums + values.sum(dim=0), squares + values.square().sum(dim=0)
    variance = squares / len(images) - (sums / len(images)).square()
    return float(variance.clamp_min(0).mean().sqrt())


def copies(images: Tensor) -> int:
    """Count the images that are exact copies of an earlier one.

    Example:
        >>> copies(torch.tensor([5, 7, 5, 5], dtype=torch.uint8).reshape(4, 1, 1, 1))
        2
    """
    hashes = {hashlib.sha256(image.contiguous().numpy().tobytes()).digest() for image in images}
    return len(images) - len(hashes)


def likeness_warnings(
    images: Tensor, labels: Tensor | None, class_names: Sequence[str]
) -> list[str]:
    """Say where images of a set are equal, or nearly so.

    Args:
        images: uint8 pixels ``(n, c, h, w)`` on the CPU.
        labels: int64 ``(n,)``; None takes the whole set for one class.
        class_names: Names in label order.

    Returns:
        A sentence for the set, if all its images are nearly equal; else one for classes whose images are, and one for
        exact copies within classes. None for a set that is as it should be.

    Example:
        >>> likeness_warnings(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ["cat", "dog"])
        ['all 2 images of the set are (nearly) equal']
    """
    if len(images) > 1 and spread(images) < NEARLY_EQUAL:
        return [f"all {len(images)} images of the set are (nearly) equal"]
    groups = {"the set": images}
    if labels is not None:
        groups = {name: images[labels == label] for label, name in enumerate(class_names)}
    alike = [name for name, part in groups.items() if len(part) > 1 and spread(part) < NEARLY_EQUAL]
    warnings = []
    if alike:
        named = ", ".join(alike[:3]) + (", ..." if len(alike) > 3 else "")
        warnings.append(
            f"the images of {len(alike)} of {len(groups)} classes are (nearly) equal: {named}"
        )
    doubled = sum(copies(part) for name, part in groups.items() if name not in alike)
    if doubled:
        warnings.append(
            f"{doubled} of {len(images)} images are exact copies of others of their class"
        )
    return warnings
