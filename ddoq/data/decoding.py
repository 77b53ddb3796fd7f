"""From encoded images of any mode and size to square RGB tensors, within bounds."""

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.bounds import check_number
from ddoq.errors import UserError

# Pillow takes larger images for bombs: twice its `Image.MAX_IMAGE_PIXELS` of a quarter of a gibibyte of RGB.
MAX_PIXELS = 178_956_970
# Resized to 512 pixels such an image takes 79 MB; panoramas are ten times as wide as high.
MAX_ASPECT_RATIO = 100.0
MAX_IMAGE_SIZE = 4096  # pixels; the released priors work at 256 to 1024

# What Pillow raises for files that are cut short, damaged, not images, or absurdly large: its readers of formats check
# little of what they unpack.
_DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError),
    *(TypeError, AttributeError, RuntimeError, MemoryError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
_SHOWN = 10  # faults that an error lists
_FEW = 16  # below this many images starting threads costs more than it saves
_OPENING = threading.Lock()  # while Pillow's own limit is lifted


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be, before it is decoded: a file of 300 bytes can ask for 15 GB.

    Attributes:
        max_pixels: Width times height.
        max_aspect_ratio: The longer side by the shorter one.

    Raises:
        UserError: If a limit is below 1.

    Example:
        >>> ImageLimits().fault(100_000, 1)
        'its sides are 100000 and 1 pixels, a ratio beyond max_aspect_ratio 100'
    """

    max_pixels: int = MAX_PIXELS
    max_aspect_ratio: float = MAX_ASPECT_RATIO

    def __post_init__(self) -> None:
        """Check the limits themselves."""
        for key in ("max_pixels", "max_aspect_ratio"):
            check_number(key, getattr(self, key), at_least=1)

    def fault(self, width: int, height: int) -> str:
        """Say what is wrong with a size; empty where nothing is."""
        if width * height > self.max_pixels:
            return f"it has {width} x {height} pixels, more than max_pixels {self.max_pixels}"
        longest, shortest = max(width, height), max(1, min(width, height))
        if longest > self.max_aspect_ratio * shortest:
            return (
                f"its sides are {width} and {height} pixels, a ratio beyond max_aspect_ratio "
                f"{self.max_aspect_ratio:g}"
            )
        return ""


LIMITS = ImageLimits()


def check_image_size(option: str, value: object, largest: int = MAX_IMAGE_SIZE) -> None:
    """Refuse a side of images that is no whole number of pixels, or absurd.

    Args:
        option: What the user gave it as.
        value: The side.
        largest: The largest one.

    Raises:
        UserError: If it is no whole number from 1 to ``largest``.

    Example:
        >>> check_image_size("image_size", 224)
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not 1 <= int(str(value)) <= largest:
        raise UserError(
            f"{option} must be at least 1 and at most {largest} pixels, a whole number, not {value!r}."
        )


class UnreadableImagesError(UserError):
    """Images that cannot be used.

    Attributes:
        faults: For each its place, and what is wrong.

    Args:
        faults: The same; the message lists the first of them.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        shown = "; ".join(self.faults[:_SHOWN])
        more = len(self.faults) - _SHOWN
        rest = f"; and {more} more (`ddoq-bench check` lists all)" if more > 0 else ""
        count = "1 image" if len(self.faults) == 1 else f"{len(self.faults)} images"
        super().__init__(f"{count} cannot be used: {shown}{rest}. Mend or remove what is named.")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image of any mode to RGB.

    Transparency is dropped, as torchvision's own loader does. 16-bit grey is scaled to 8 bits, where Pillow
    would clip all but the darkest 256 levels to white.

    Args:
        image: Any mode but floating point.

    Returns:
        The image in mode RGB.

    Raises:
        ValueError: If the pixels are floats or integers beyond 16 bits: their scale is unknown.

    Example:
        >>> to_rgb(Image.new("I;16", (1, 1), 65535)).getpixel((0, 0))
        (255, 255, 255)
    """
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("integer pixels beyond 16 bits; convert them to 8 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels; convert them to 8 bits")
    if image.mode in ("P", "PA"):
        image = image.convert(
            "RGBA"
        )  # straight to RGB, Pillow warns about palettes with transparency
    return image.convert("RGB")


def fit_square(
    image: Tensor, size: int, resize: int | None = None, *, stretch: bool = False
) -> Tensor:
    """Bring the shorter side to ``resize`` (bilinear, antialiased), then cut out the centre.

    Args:
        image: uint8 ``(3, h, w)``.
        size: Side in pixels of the result.
        resize: What the shorter side is brought to, at least ``size``, so that the border is cut off; ``size`` where None.
        stretch: Bring both sides to ``size`` instead, whatever their ratio and ``resize``, and cut nothing off.

    Returns:
        uint8 ``(3, size, size)``; the image itself where it has that size.

    Example:
        >>> fit_square(torch.zeros(3, 20, 10, dtype=torch.uint8), 5).shape
        torch.Size([3, 5, 5])
        >>> fit_square(torch.arange(64, dtype=torch.uint8).expand(3, 64, 64), 4, resize=64)[0, 0]
        tensor([30, 31, 32, 33], dtype=torch.uint8)
    """
    if stretch:
        same = image.shape[-2:] == (size, size)
        return image if same else tv.resize(image, [size, size], antialias=True)
    side = size if resize is None else resize
    if min(image.shape[-2:]) != side:
        image = tv.resize(_around_centre(image), [side], antialias=True)
    return image if image.shape[-2:] == (size, size) else tv.center_crop(image, [size, size])


def _around_centre(image: Tensor) -> Tensor:
    """Cut a very long image down to the part around its centre that :func:`fit_square` can show.

    Resizing needs memory for the whole image at the new size. Images within the default ratio of sides stay whole: the
    phase of the interpolation depends on the full length, so that a part of them would give other bits.
    """
    sides = list(image.shape[-2:])
    shortest, longest = min(sides), max(sides)
    if longest <= MAX_ASPECT_RATIO * shortest:
        return image
    # The square in the middle, and as much on each side as antialiasing looks at; the same number of pixels goes at
    # both ends, so that the centre stays.
    margin = (longest - 5 * shortest) // 2
    return image.narrow(sides.index(longest) - 2, margin, longest - 2 * margin)


@contextmanager
def open_image(source: bytes | Path, limits: ImageLimits = LIMITS) -> Iterator[Image.Image]:
    """Open an image and check its size; no pixel is decoded.

    Args:
        source: An encoded image, or the path of one.
        limits: How large it may be.

    Yields:
        The image, in the file's own mode.

    Raises:
        ValueError: If it is too large, or other errors of Pillow if it is none.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if limits.max_pixels <= MAX_PIXELS:
        image = Image.open(stream)
    else:
        with _OPENING:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(stream)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    with image:
        if fault := limits.fault(*image.size):
            raise ValueError(fault)
        yield image


def decode_whole(
    source: bytes | Path, place: str, limits: ImageLimits = LIMITS
) -> tuple[Tensor, str]:
    """Decode one image in its own size, turned upright as its EXIF data says.

    Args:
        source: An encoded image, or the path of one.
        place: Where it comes from, for the error.
        limits: How large it may be.

    Returns:
        uint8 ``(3, h, w)`` and the codec, e.g. ``png``.

    Raises:
        UnreadableImagesError: If it cannot be decoded, or is too large.
    """
    try:
        with open_image(source, limits) as image:
            codec = str(image.format).lower()  # of the contents; extensions are sometimes wrong
            pixels = np.array(to_rgb(ImageOps.exif_transpose(image)))
    except _DECODING_ERRORS as error:
        raise UnreadableImagesError([fault_text(place, error)]) from None
    return torch.from_numpy(pixels).permute(2, 0, 1), codec


def fault_text(place: str, error: Exception) -> str:
    """Say what is wrong with the image at a place."""
    reason = str(error).strip() or type(error).__name__
    return f"{place}: the image cannot be decoded ({reason})"


def check_encoded(source: bytes | Path, place: str, limits: ImageLimits = LIMITS) -> None:
    """Check an image without decoding it, in some twenty microseconds.

    The header is read, the checksums of a PNG and the end of a JPEG. Whatever has neither is decoded, and so is a JPEG
    without its end, so that nothing is refused that could be read. Damage inside a JPEG passes: decoders conceal it.

    Args:
        source: An encoded image, or the path of one.
        place: Where it comes from, for the error.
        limits: How large it may be.

    Raises:
        UnreadableImagesError: If it cannot be decoded, or is too large.
    """
    try:
        with open_image(source, limits) as image:
            kind = image.format
            if kind == "PNG":
                image.verify()
                return
    except _DECODING_ERRORS as error:
        raise UnreadableImagesError([fault_text(place, error)]) from None
    if kind != "JPEG" or not _has_end(source):
        decode_whole(source, place, limits)


def _has_end(source: bytes | Path) -> bool:
    """Say whether a JPEG ends with its marker of the end."""
    if isinstance(source, bytes):
        return source.endswith(b"\xff\xd9")
    with source.open("rb") as file:
        file.seek(-2, io.SEEK_END)
        return file.read() == b"\xff\xd9"


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored.

    Attributes:
        content: Its bytes, or where they are; None where there are none.
        place: Where it comes from, for errors.
        limits: How large it may be.
        refusal: Why it may not be read although it is there.
    """

    content: bytes | Path | None
    place: str
    limits: ImageLimits = LIMITS
    refusal: str = ""

    def given(self) -> bytes | Path:
        """Return the content.

        Raises:
            UnreadableImagesError: If there is none, or it may not be read.
        """
        if self.refusal or self.content is None:
            raise UnreadableImagesError([f"{self.place}: {self.refusal or 'there is no image'}"])
        return self.content

    def fault(self) -> str:
        """Check it without decoding, see :func:`check_encoded`; empty where all is well."""
        try:
            check_encoded(self.given(), self.place, self.limits)
        except UnreadableImagesError as error:
            return error.faults[0]
        return ""


def decode(
    source: bytes | Path,
    size: int,
    place: str,
    limits: ImageLimits = LIMITS,
    resize: int | None = None,
    *,
    stretch: bool = False,
) -> Tensor:
    """Decode one image, turned upright as its EXIF data says.

    Args:
        source: An encoded image, or the path of one.
        size: Side in pixels of the result.
        place: Where the image comes from, for the error.
        limits: How large the encoded image may be.
        resize: See :func:`fit_square`.
        stretch: See :func:`fit_square`.

    Returns:
        uint8 ``(3, size, size)``.

    Raises:
        UserError: If the image cannot be decoded, or is too large.
    """
    return fit_square(decode_whole(source, place, limits)[0], size, resize, stretch=stretch)


def decode_all(
    sources: Sequence[bytes | Path],
    size: int,
    place: Callable[[int], str],
    limits: ImageLimits = LIMITS,
    resize: int | None = None,
    *,
    stretch: bool = False,
) -> Tensor:
    """Decode many images, on as many threads as torch may use.

    Args:
        sources: Encoded images, or paths.
        size: Side in pixels of the results.
        place: Says where the image at a position of ``sources`` comes from, for errors.
        limits: How large an encoded image may be.
        resize: See :func:`fit_square`.
        stretch: See :func:`fit_square`.

    Returns:
        uint8 ``(n, 3, size, size)``.

    Raises:
        UserError: If an image cannot be decoded, or is too large.
    """
    images = torch.empty(len(sources), 3, size, size, dtype=torch.uint8)

    def fill(position: int) -> None:
        image = decode(sources[position], size, place(position), limits, resize, stretch=stretch)
        images[position] = image

    threads = torch.get_num_threads()
    if threads == 1 or len(sources) < _FEW:
        for position in range(len(sources)):
            fill(position)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(len(sources))))
    return images
