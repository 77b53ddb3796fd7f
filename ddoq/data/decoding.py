"""From encoded images of any mode and size to square RGB tensors."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.errors import UserError

# What Pillow raises for files that are cut short, not images, or absurdly large.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_FEW = 16  # below this many images starting threads costs more than it saves


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


def fit_square(image: Tensor, size: int) -> Tensor:
    """Bring the shorter side to ``size`` (bilinear, antialiased), then cut out the centre.

    Args:
        image: uint8 ``(3, h, w)``.
        size: Side in pixels of the result.

    Returns:
        uint8 ``(3, size, size)``; the image itself where it has that size.

    Example:
        >>> fit_square(torch.zeros(3, 20, 10, dtype=torch.uint8), 5).shape
        torch.Size([3, 5, 5])
    """
    if min(image.shape[-2:]) != size:
        image = tv.resize(image, [size], antialias=True)
    return image if image.shape[-2:] == (size, size) else tv.center_crop(image, [size, size])


def decode(source: bytes | Path, size: int, place: str) -> Tensor:
    """Decode one image, turned upright as its EXIF data says.

    Args:
        source: An encoded image, or the path of one.
        size: Side in pixels of the result.
        place: Where the image comes from, for the error.

    Returns:
        uint8 ``(3, size, size)``.

    Raises:
        UserError: If the image cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            pixels = np.array(to_rgb(ImageOps.exif_transpose(image)))
    except _DECODING_ERRORS as error:
        raise UserError(
            f"{place}: the image cannot be decoded ({error}). Mend or remove it."
        ) from None
    return fit_square(torch.from_numpy(pixels).permute(2, 0, 1), size)


def decode_all(sources: Sequence[bytes | Path], size: int, place: Callable[[int], str]) -> Tensor:
    """Decode many images, on as many threads as torch may use.

    Args:
        sources: Encoded images, or paths.
        size: Side in pixels of the results.
        place: Says where the image at a position of ``sources`` comes from, for errors.

    Returns:
        uint8 ``(n, 3, size, size)``.

    Raises:
        UserError: If an image cannot be decoded.
    """
    images = torch.empty(len(sources), 3, size, size, dtype=torch.uint8)

    def fill(position: int) -> None:
        images[position] = decode(sources[position], size, place(position))

    threads = torch.get_num_threads()
    if threads == 1 or len(sources) < _FEW:
        for position in range(len(sources)):
            fill(position)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, range(len(sources))))
    return images
