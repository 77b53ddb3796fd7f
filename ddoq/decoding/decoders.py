"""Decoders: how the stored tensors of a distilled set become the images that students train on.

A decoder is a small dataclass whose fields, JSON values, travel in the set's record. A method that stores something of
its own writes another one and registers it; the set's files and the evaluation need no change.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.images import to_float


class Decoder(ABC):
    """Makes images of what is stored; subclasses are frozen dataclasses with JSON values as fields.

    Attributes:
        name: What records call it.
    """

    name: ClassVar[str]

    @abstractmethod
    def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Refuse stored tensors that cannot be decoded; see :meth:`decode`.

        Raises:
            UserError: Saying what is wrong.
        """

    @abstractmethod
    def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Make images.

        Args:
            images: What the set stores, ``(n, ...)``.
            parts: Further stored tensors by name, each with n rows.

        Returns:
            Images, uint8 or float32 ``(m, 3, h, w)``, and the stored row of each, int64 ``(m,)``.
        """

    def per_stored(self) -> int:
        """Return how many images a stored one becomes."""
        return 1

    def gives_pixels(self, images: Tensor) -> bool:
        """Say whether decoded images are pixels in [0, 1] (or uint8), rather than in the space of a transform."""
        return images.dtype == torch.uint8

    def describe(self) -> dict[str, Any]:
        """Return name and fields, as records keep them."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]


_Class = TypeVar("_Class", bound=type[Decoder])
_REGISTRY: dict[str, type[Decoder]] = {}


def register_decoder(decoder: _Class) -> _Class:
    """Make a decoder known to everyone who reads sets; a class decorator.

    Raises:
        ValueError: If another class has its name.
    """
    if _REGISTRY.setdefault(decoder.name, decoder) is not decoder:
        raise ValueError(f"two decoders are called {decoder.name!r}")
    return decoder


def decoder_names() -> list[str]:
    """List the decoders that are known.

    Example:
        >>> {"grid", "pixels"} <= set(decoder_names())
        True
    """
    return sorted(_REGISTRY)


def decoder_from(description: Any, where: object) -> Decoder:
    """Make a decoder from a record.

    Args:
        description: What :meth:`Decoder.describe` returned.
        where: The file it stands in, for errors.

    Raises:
        UserError: If the decoder is unknown, or has other fields.

    Example:
        >>> decoder_from({"name": "grid", "factor": 2}, "metadata.json")
        Grid(factor=2)
    """
    values = dict(description) if isinstance(description, Mapping) else {}
    name = values.pop("name", description)
    if name not in _REGISTRY:
        raise UserError(
            f"{where}: the set needs the decoder {name!r}, which is not known here. {suggest(str(name), decoder_names())} "
            "It comes with the method that made the set: use the version of the package that made it, or a newer one."
        )
    decoder = _REGISTRY[name]
    expected = {item.name for item in fields(decoder)}  # type: ignore[arg-type]
    if set(values) != expected:
        raise UserError(
            f"{where}: the decoder {name!r} takes {', '.join(sorted(expected)) or 'no value'}, not "
            f"{', '.join(sorted(values)) or 'none'}."
        )
    return decoder(**values)


@register_decoder
@dataclass(frozen=True)
class Pixels(Decoder):
    """Stored images are what students see."""

    name: ClassVar[str] = "pixels"

    def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Refuse what are no images; see :meth:`Decoder.check`."""
        check_images(images)
        if parts:
            raise UserError(f"Not a distilled set: {self.name} has no use for {', '.join(parts)}.")

    def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the images themselves; see :meth:`Decoder.decode`."""
        return images, torch.arange(len(images))


@register_decoder
@dataclass(frozen=True)
class Grid(Decoder):
    """A stored image holds ``factor`` times ``factor`` smaller ones, which are enlarged to its size.

    IDC (Kim et al., 2022, arXiv 2205.14959) calls it multi-formation; IDM and M3D use it with a factor of 2.

    Attributes:
        factor: Small images along a side.
    """

    factor: int
    name: ClassVar[str] = "grid"

    def __post_init__(self) -> None:
        """Refuse what is no grid."""
        if not isinstance(self.factor, int) or self.factor < 1:
            raise UserError(
                f"The factor of a grid must be a whole number from 1 on, not {self.factor!r}."
            )

    def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Refuse images that the grid does not divide; see :meth:`Decoder.check`."""
        Pixels().check(images, parts)
        height, width = images.shape[-2:]
        if height % self.factor or width % self.factor:
            raise UserError(
                f"Not a distilled set: a grid of {self.factor} x {self.factor} does not divide images of {height} x "
                f"{width} pixels."
            )

    def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Split and enlarge; float32 images, the small ones of one image behind one another."""
        pixels = to_float(images) if images.dtype == torch.uint8 else images
        index = torch.arange(len(images)).repeat_interleave(self.per_stored())
        return split_grid(pixels, self.factor), index

    def per_stored(self) -> int:
        """Return the small images of a stored one."""
        return self.factor**2


def check_images(images: Tensor) -> None:
    """Refuse what is neither uint8 nor float32 images ``(n, 3, h, w)``.

    Raises:
        UserError: Saying what images must be.
    """
    shaped = images.ndim == 4 and images.shape[1] == 3 and images.numel() > 0
    if not shaped or images.dtype not in (torch.uint8, torch.float32):
        raise UserError(
            f"Not a distilled set: images must be uint8 or float32 (n, 3, h, w), not {images.dtype} "
            f"{tuple(images.shape)}."
        )
    if images.dtype == torch.float32 and not bool(torch.isfinite(images).all()):
        raise UserError("Not a distilled set: images must be finite.")


def split_grid(images: Tensor, factor: int) -> Tensor:
    """Cut images into a grid of smaller ones and enlarge each to the full size; gradients flow through.

    Args:
        images: float ``(n, c, h, w)``; h and w are multiples of ``factor``.
        factor: Small images along a side.

    Returns:
        float ``(n * factor**2, c, h, w)``, bilinear: those of one image behind one another, row by row.

    Example:
        >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> split_grid(image, 2)[:, 0, 0, 0].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    n, channels, height, width = images.shape
    small = images.reshape(n, channels, factor, height // factor, factor, width // factor)
    small = small.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // factor, width // factor)
    return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def tile_grid(images: Tensor, factor: int) -> Tensor:
    """Shrink images and put ``factor`` times ``factor`` of them into one: what :func:`split_grid` takes apart.

    A pixel of a small image is the mean of the ``factor`` times ``factor`` pixels that it stands for.

    Args:
        images: float ``(n * factor**2, c, h, w)``; h and w are multiples of ``factor``.
        factor: Small images along a side.

    Returns:
        float ``(n, c, h, w)``: images that follow one another fill one grid, row by row.

    Example:
        >>> grays = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
        >>> tile_grid(grays, 2)
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    n, channels, height, width = images.shape
    small = F.avg_pool2d(images, factor)
    rows = small.reshape(n // factor**2, factor, factor, channels, *small.shape[-2:])
    return rows.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
