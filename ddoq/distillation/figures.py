"""Pictures of distilled sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddoq.console import say
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.fonts import default_font, drawable, font_for, not_drawable
from ddoq.storage.files import atomic_path

_SIDE = 64  # pixels that an image has at least on the sheet
_LARGEST = 128  # ... and about at most
_GAP = 6
_FONT_SIZE = 13
_NAME_WIDTH = 200  # at most; longer names are cut


def set_sheet(distilled: DistilledSet, path: Path) -> None:
    """Draw what students see of a distilled set; see :func:`image_sheet`.

    Args:
        distilled: The set. Images of a transform's space are mapped back to pixels; what belongs to no class makes one
            row.
        path: The file to write.
    """
    decoded = distilled.decode()
    labels, names = decoded.classes(), distilled.class_names
    if labels is None:
        labels, names = torch.zeros(len(decoded), dtype=torch.int64), ["all images"]
    image_sheet(decoded.pixels(), labels, decoded.weights, names, path)


def image_sheet(
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
    class_names: Sequence[str],
    path: Path,
    max_per_class: int = 10,
    max_rows: int = 40,
) -> None:
    """Draw a distilled set as a PNG: a row per class, every image with its weight beneath.

    Args:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``, indices into ``class_names``.
        weights: float ``(n,)``.
        class_names: Names in label order.
        path: The file to write.
        max_per_class: Images shown of a class, the first ones.
        max_rows: Classes shown.

    Raises:
        ValueError: If shapes or dtypes are others.
    """
    if weights.shape != (len(images),):
        raise ValueError("labels and weights must have one entry an image")
    captions = [f"{weight:.2f}" for weight in weights.tolist()]
    captioned_sheet(images, labels, captions, class_names, path, max_per_class, max_rows)


def captioned_sheet(
    images: Tensor,
    labels: Tensor,
    captions: Sequence[str],
    class_names: Sequence[str],
    path: Path,
    max_per_class: int = 10,
    max_rows: int = 40,
) -> None:
    """Draw labelled images as a PNG: a row per class, every image with a text beneath.

    Small images are enlarged by a whole factor without smoothing, large ones reduced. Of more classes than
    ``max_rows`` the sheet shows evenly spaced ones, and says so.

    Args:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``, indices into ``class_names``.
        captions: A short text for each image.
        class_names: Names in label order.
        path: The file to write.
        max_per_class: Images shown of a class, the first ones.
        max_rows: Classes shown.

    Raises:
        ValueError: If shapes, dtypes or lengths are others.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be uint8 (n, 3, h, w), not {images.dtype} {tuple(images.shape)}"
        )
    if labels.shape != (len(images),) or len(captions) != len(images):
        raise ValueError("labels and captions must have one entry an image")
    shown = _spread(len(class_names), max_rows)
    members = [torch.nonzero(labels == label).flatten().tolist() for label in shown]
    columns = max(1, max(min(len(rows), max_per_class) for rows in members))
    titles = _titles(shown, [class_names[label] for label in shown])
    layout = _Layout.of((images.shape[-1], images.shape[-2]), titles)
    footer = layout.line + _GAP if len(shown) < len(class_names) else 0
    width = layout.names + columns * layout.cell_width + _GAP
    sheet = Image.new("RGB", (width, len(shown) * layout.cell_height + _GAP + footer), "white")
    draw = ImageDraw.Draw(sheet)
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    for row, (title, indices) in enumerate(zip(titles, members, strict=True)):
        top = _GAP + row * layout.cell_height
        room = layout.names - 2 * _GAP
        font = _font(title)
        draw.text((_GAP, top), _fit(title, font, room), "black", font)
        draw.text(
            (_GAP, top + layout.line), _note(len(indices), max_per_class), "gray", layout.font
        )
        for column, index in enumerate(indices[:max_per_class]):
            place = (layout.names + column * layout.cell_width, top)
            image = _resized(Image.fromarray(pixels[index]), layout.width, layout.height)
            sheet.paste(image, place)
            _write_below(draw, place, captions[index], layout)
    if footer:
        text = f"{len(shown)} of {len(class_names)} classes, evenly spaced"
        draw.text((_GAP, sheet.height - footer), text, "gray", layout.font)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


@dataclass(frozen=True)
class _Layout:
    """Sizes on a sheet, in pixels: the column of names, and an image with the line beneath it."""

    font: ImageFont.FreeTypeFont
    line: int
    names: int
    width: int
    height: int

    @classmethod
    def of(cls, size: tuple[int, int], names: Sequence[str]) -> "_Layout":
        """Lay out images of a size (width, height) beside names."""
        font = _font()
        longest = max([font.getlength("no image"), *(_font(n).getlength(n) for n in names)])
        column = int(min(longest + 3 * _GAP, _NAME_WIDTH))
        return cls(font, _FONT_SIZE + 4, column, *_size(*size))

    @property
    def cell_width(self) -> int:
        return max(self.width, 32) + _GAP

    @property
    def cell_height(self) -> int:
        return self.height + self.line + _GAP


def _note(count: int, shown: int) -> str:
    """Say how many images of a class there are, where the sheet does not show it."""
    if count > shown:
        return f"{shown} of {count}"
    return "" if count else "no image"


def _write_below(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, layout: _Layout
) -> None:
    left, top = place
    middle = left + (layout.width - layout.font.getlength(text)) / 2
    draw.text((middle, top + layout.height + 1), text, "black", layout.font)


def _spread(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of ``count`` indices, evenly spaced from the first."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def _size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    if longest > _LARGEST:
        return max(1, width * _LARGEST // longest), max(1, height * _LARGEST // longest)
    factor = -(-_SIDE // longest)
    return width * factor, height * factor


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    # Interpolation would invent detail that a student never sees; averaging is right for reduction.
    method = Image.Resampling.BOX if width < image.width else Image.Resampling.NEAREST
    return image.resize((width, height), method)


def _font(text: str = "") -> ImageFont.FreeTypeFont:
    """Load a font with the letters of a text, DejaVu Sans where it has them."""
    return ImageFont.truetype(font_for(text) or default_font(), _FONT_SIZE)


def _titles(labels: Sequence[int], names: Sequence[str]) -> list[str]:
    """Write the names of classes so that they can be drawn, with the label where letters had to be replaced."""
    lacking = not_drawable(names)
    if lacking:
        say(
            f"pictures: no installed font has all letters of {len(lacking)} class names ({lacking[0]!a}, ...): they "
            "are written by their numbers. Fonts such as Noto Sans CJK have them."
        )
    return [
        f"{label}: {drawable(name)}" if name in lacking else drawable(name)
        for label, name in zip(labels, names, strict=True)
    ]


def _fit(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Shorten a name until it fits."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"
