"""Datasets for smoke runs: a few images of a real one, or coloured noise in the place of one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.known_registries import load_registry
from ddoq.data.splits import ImageSplit, SubsetSplit, TensorSplit
from ddoq.errors import UserError
from ddoq.seeding import generator_for
from ddoq.storage.fingerprints import hash_config, hash_tensors

_CLASSES = 10
_TRAIN, _TEST = 8, 4  # images a class
_NOISE = 0.1  # standard deviation, of pixels in [0, 1]


class FewImages(ImageDataModule):
    """The first images of the first classes of another dataset.

    Only these are decoded and hashed; labels and classes of the whole source are checked.

    Args:
        source: The dataset. Its limits per class do not count.
        classes: How many of its classes are kept; None keeps all.
        train_per_class: Training images kept of each class.
        test_per_class: Test images kept of each class.

    Raises:
        UserError: If a number is below 1; on :meth:`setup`, what the source raises.
    """

    def __init__(
        self,
        source: ImageDataModule,
        classes: int | None = _CLASSES,
        train_per_class: int = _TRAIN,
        test_per_class: int = _TEST,
    ) -> None:
        super().__init__(
            source.image_size,
            batch_size=source.batch_size,
            mean=source.mean,
            std=source.std,
            test_resize=source.given_test_resize,
        )
        for what, value in (
            ("classes", classes),
            ("train_per_class", train_per_class),
            ("test_per_class", test_per_class),
        ):
            if value is not None and value < 1:
                raise UserError(f"{what} must be at least 1, not {value}.")
        self.name = f"{source.name}-smoke"  # in every table: its numbers are of no use
        self.missing_classes_hint = source.missing_classes_hint
        self.source = source
        self.kept = classes
        self.per_class = (train_per_class, test_per_class)
        self._chosen: dict[str, Tensor] = {}

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Choose images; see :meth:`ImageDataModule.load_splits`."""
        try:
            train, test, registry = self.source.load_splits()
        except UserError as error:
            raise UserError(
                f"{error} (To try the rest of the configuration without this dataset: --smoke synthetic.)"
            ) from None
        self.source.classes = registry
        self.source.check_splits(train, test)
        kept = _first(registry, self.kept)
        parts = [
            _first_images(split, len(kept), count)
            for split, count in zip((train, test), self.per_class, strict=True)
        ]
        for what, part in zip(("train", "test"), parts, strict=True):
            self._chosen |= {
                f"{what}_images": part.load(range(len(part))),
                f"{what}_labels": part.labels,
            }
        return parts[0], parts[1], kept

    def source_fingerprint(self) -> str:
        """Hash the pixels of the chosen images."""
        return hash_tensors(self._chosen)


class SyntheticImages(ImageDataModule):
    """A colour for each class with noise on it: separable, yet no two images are equal.

    Args:
        image_size: Side in pixels.
        registry: Whose first ten classes it has; None has ten classes without meaning.
        mean: Channel means.
        std: Channel standard deviations.
    """

    name = "synthetic-smoke"
    max_image_size = 1024  # all images in memory

    def __init__(
        self,
        image_size: int = 16,
        registry: str | None = None,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__(image_size, mean=mean, std=std)
        self.registry = registry

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the classes and the normalisation of the dataset that it stands in for."""
        kept = {k: given[k] for k in ("registry", "mean", "std") if given.get(k) is not None}
        return {"image_size": super().tiny(given)["image_size"], **kept}

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Draw the images; see :meth:`ImageDataModule.load_splits`."""
        classes = (
            ClassRegistry([f"class {label}" for label in range(_CLASSES)])
            if self.registry is None
            else _first(load_registry(self.registry), _CLASSES)
        )
        colours = torch.rand(len(classes), 3, 1, 1, generator=generator_for(0, "synthetic colours"))
        splits = []
        for what, count in (("train", _TRAIN), ("test", _TEST)):
            labels = torch.arange(len(classes)).repeat_interleave(count)
            shape = (len(labels), 3, self.image_size, self.image_size)
            noise = torch.randn(shape, generator=generator_for(0, "synthetic noise", what))
            pixels = (colours[labels] + _NOISE * noise).clamp(0, 1)
            splits.append(TensorSplit((pixels * 255).to(torch.uint8), labels))
        return splits[0], splits[1], classes

    def source_fingerprint(self) -> str:
        """Hash what decides the images."""
        return hash_config(["synthetic", self.image_size, self.registry])


def _first(registry: ClassRegistry, count: int | None) -> ClassRegistry:
    return registry.part(range(len(registry))[:count])


def _first_images(split: ImageSplit, classes: int, count: int) -> SubsetSplit:
    chosen = [split.of_class(label)[:count] for label in range(classes)]
    return SubsetSplit(split, torch.cat(chosen))
