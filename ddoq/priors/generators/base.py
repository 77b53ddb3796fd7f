"""What a generator offers: an image of what stands before any of its layers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ddoq.errors import UserError


@dataclass(frozen=True)
class Split:
    """A place at which a generator can be split.

    Attributes:
        name: Of the layer that comes next.
        shape: Of the features of one image that stand there.
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Latents:
    """What a generator makes images of.

    Attributes:
        features: Float ``(n, ...)``, what stands before a layer.
        styles: Float ``(n, layers, d)``, what each layer is told beside it; None of a generator without styles.
    """

    features: Tensor
    styles: Tensor | None = None


class Generator(nn.Module, ABC):
    """A network of layers, one after the other, the last of which makes images: image = G from layer n (f, w).

    Before every layer it can be split: what stands there, features f, and what the layers from there on are told, styles w,
    decide the image. Images are float ``(n, 3, h, w)`` in the range of [0, 1], but may leave it.

    Attributes:
        image_size: Side in pixels of the images.
        num_classes: How many classes it knows; None where it knows nothing of classes.
        origin: Where it came from, for messages.
        begins: What latents begin with: ``images``, which it encodes, or ``draws`` from its generators.
    """

    image_size: int
    num_classes: int | None = None
    origin: str
    begins: Literal["images", "draws"] = "draws"

    def __init__(self) -> None:
        super().__init__()
        self.origin = type(self).__name__

    @property
    @abstractmethod
    def splits(self) -> tuple[Split, ...]:
        """The places before its layers, in their order."""

    @abstractmethod
    def begin(
        self, labels: Tensor, images: Tensor, generators: Sequence[torch.Generator]
    ) -> Latents:
        """Make latents of classes, before the first layer.

        Args:
            labels: int64 ``(n,)``; of the generator's classes, where it knows some.
            images: Real images of these classes, float in [0, 1] ``(n, 3, h, w)``; one that draws leaves them alone.
            generators: One CPU generator an image, so that latents do not depend on their batch.
        """

    @abstractmethod
    def layer(self, number: int, features: Tensor, style: Tensor | None) -> Tensor:
        """Send features through one layer; the last gives images.

        Args:
            number: Of the layer, as in :attr:`splits`.
            features: Float ``(n, *splits[number].shape)``.
            style: Float ``(n, d)``; None of a generator without styles.
        """

    def decode(self, features: Tensor, styles: Tensor | None = None, start: int = 0) -> Tensor:
        """Make images of what stands before a layer; gradients flow.

        Args:
            features: Float ``(n, *splits[start].shape)``.
            styles: Float ``(n, layers, d)``: of all layers, of which those before ``start`` are not looked at.
            start: Number of the layer.

        Returns:
            float32 ``(n, 3, image_size, image_size)``.
        """
        for number in range(start, len(self.splits)):
            features = self.layer(number, features, None if styles is None else styles[:, number])
        return features.float()

    @torch.no_grad()
    def advance(self, latents: Latents, start: int, stop: int) -> Latents:
        """Send features through the layers from one split point to a later one; styles stay.

        Args:
            latents: As they stand before layer ``start``.
            start: Number of a layer.
            stop: Number of the layer before which the features shall stand, not before ``start``.
        """
        features, styles = latents.features, latents.styles
        for number in range(start, stop):
            features = self.layer(number, features, None if styles is None else styles[:, number])
        return Latents(features.float(), styles)


def split_number(splits: Sequence[Split], name: str | None, key: str, origin: str) -> int:
    """Find a split point by its name.

    Args:
        splits: Of a generator.
        name: Of the layer that comes next; None for the middle one.
        key: The setting, for errors.
        origin: Of the generator, for errors.

    Raises:
        UserError: If the generator has no such layer, listing those it has.

    Example:
        >>> splits = [Split("b4", (8, 4, 4)), Split("b8", (8, 8, 8)), Split("rgb", (8, 8, 8))]
        >>> split_number(splits, "rgb", "split", "G"), split_number(splits, None, "split", "G")
        (2, 1)
    """
    if name is None:
        return len(splits) // 2
    names = [split.name for split in splits]
    if name not in names:
        raise UserError(
            f"{key} is {name!r}, but {origin} cannot be split there: it can before {', '.join(names)}."
        )
    return names.index(name)


def check_generator(
    image_size: int, num_classes: int | None, origin: str, data_size: int, data_classes: int
) -> None:
    """Refuse a generator of images of another size, or of other classes, than a dataset has.

    Args:
        image_size: Of the generator.
        num_classes: Of the generator; None where it knows none.
        origin: Of the generator.
        data_size: Side in pixels of the dataset's images.
        data_classes: Its classes.

    Raises:
        UserError: Naming both.
    """
    if image_size != data_size:
        raise UserError(
            f"The generator {origin} makes images of {image_size} pixels, but those of the dataset have {data_size}: set "
            f"data.init_args.image_size to {image_size}, or give another generator."
        )
    if num_classes is not None and num_classes != data_classes:
        raise UserError(
            f"The generator {origin} knows {num_classes} classes, but the dataset has {data_classes}: give one that was "
            "trained on it, or say which number each class has in the generator (classes)."
        )
