"""Encoded images with their labels, before they are decoded."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddoq.data.decoding import (
    LIMITS,
    ImageLimits,
    UnreadableImagesError,
    decode_whole,
    fit_square,
)
from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a parquet file.

    Attributes:
        image: Encoded images.
        label: Labels: ClassLabel, integers or texts.
        weight: Weights; where the column is missing every image weighs 1. None: the column is not read.
    """

    image: str = "image"
    label: str = "label"
    weight: str | None = "weight"


@dataclass(frozen=True)
class Listing:
    """What a source holds.

    Attributes:
        images: Paths of encoded images, or the encoded images themselves.
        labels: int64 ``(n,)``.
        weights: float32 ``(n,)``; None where the source has none.
        classes: The classes, in label order.
        place: Says where the image at a position comes from, for errors.
        fingerprint: Hash of the files.
    """

    images: Sequence[Path | bytes]
    labels: Tensor
    weights: Tensor | None
    classes: ClassList
    place: Callable[[int], str]
    fingerprint: str


@dataclass(frozen=True)
class Decoded:
    """Images with what is known of their files.

    Attributes:
        images: uint8 ``(n, 3, h, w)``.
        codec: Names of the codecs, e.g. ``jpeg`` or ``jpeg+png``.
        stored_size: Height and width in the files; None where they differ.
    """

    images: Tensor
    codec: str
    stored_size: tuple[int, int] | None


def check_classes_present(listing: Listing, where: str) -> None:
    """Refuse a set that lacks a class: nobody can learn it.

    Raises:
        UserError: If a class has no image.
    """
    counts = torch.bincount(listing.labels, minlength=len(listing.classes.names))
    empty = torch.nonzero(counts == 0).flatten().tolist()
    if empty:
        shown = ", ".join(listing.classes.title(label) for label in empty[:3])
        raise UserError(
            f"{where} has no image of {len(empty)} of {len(counts)} classes: {shown}"
            f"{' ...' if len(empty) > 3 else ''}."
        )


def decode_listing(
    listing: Listing, image_size: int | None = None, limits: ImageLimits = LIMITS
) -> Decoded:
    """Decode all images, on as many threads as torch may use.

    Args:
        listing: What to decode.
        image_size: Side in pixels: the shorter side is brought to it, then the centre is cut out, as the datasets do.
            Where omitted all images must have one size.
        limits: How large an encoded image may be.

    Returns:
        The images in the listing's order.

    Raises:
        UserError: If images cannot be decoded (it lists all of them), or sizes differ and no ``image_size`` is given.
    """
    try:
        return _decode(listing, image_size, limits)
    except UnreadableImagesError:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            faults = pool.map(lambda i: _fault(listing, i, limits), range(len(listing.images)))
            raise UnreadableImagesError([fault for fault in faults if fault]) from None


def _fault(listing: Listing, position: int, limits: ImageLimits) -> str:
    try:
        decode_whole(listing.images[position], listing.place(position), limits)
    except UnreadableImagesError as error:
        return error.faults[0]
    return ""


def _decode(listing: Listing, image_size: int | None, limits: ImageLimits) -> Decoded:
    first, _ = decode_whole(listing.images[0], listing.place(0), limits)
    shape = (image_size, image_size) if image_size else (first.shape[1], first.shape[2])
    try:
        images = torch.empty(len(listing.images), 3, *shape, dtype=torch.uint8)
    except RuntimeError:  # a set is held in memory
        size = len(listing.images) * 3 * shape[0] * shape[1] / 2**30
        raise UserError(
            f"{len(listing.images)} images of {shape[1]}x{shape[0]} pixels need {size:,.0f} GiB of memory. Bring them to a "
            "smaller size with --image-size."
        ) from None

    def fill(position: int) -> tuple[str, tuple[int, int]]:
        image, codec = decode_whole(listing.images[position], listing.place(position), limits)
        size = (image.shape[1], image.shape[2])
        if image_size:
            image = fit_square(image, image_size)
        elif size != shape:
            raise UserError(
                f"{listing.place(position)} is {size[1]}x{size[0]} pixels, {listing.place(0)} {shape[1]}x{shape[0]}. "
                f"Bring them to one size with --image-size."
            )
        images[position] = image
        return codec, size

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        read = list(pool.map(fill, range(len(images))))
    sizes = {size for _, size in read}
    codec = "+".join(sorted({codec for codec, _ in read}))
    return Decoded(images, codec, sizes.pop() if len(sizes) == 1 else None)
