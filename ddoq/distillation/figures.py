"""Pictures of distilled sets."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddoq.distillation.distilled_set import DistilledSet
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

    Small images are enlarged by a whole factor without smoothing, large ones reduced. Of more classes than
    ``max_rows`` the sheet shows evenly spaced ones, and says so.

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
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must be uint8 (n, 3, h, w), not {images.dtype} {tuple(images.shape)}"
        )
    if labels.shape != (len(images),) or weights.shape != (len(images),):
        raise ValueError("labels and weights must have one entry an image")
    shown = _spread(len(class_names), max_rows)
    members = [torch.nonzero(labels == label).flatten().tolist() for label in shown]
    columns = max(1, max(min(len(rows), max_per_class) for rows in members))
    font = _font()
    line = _FONT_SIZE + 4
    longest = max(font.getlength(_tidy(class_names[label])) for label in shown)
    names = int(min(max(longest, font.getlength("no image")) + 3 * _GAP, _NAME_WIDTH))
    width, height = _size(images.shape[-1], images.shape[-2])
    cell_width, cell_height = max(width, 32) + _GAP, height + line + _GAP
    footer = line + _GAP if len(shown) < len(class_names) else 0
    sheet = Image.new(
        "RGB",
        (names + columns * cell_width + _GAP, len(shown) * cell_height + _GAP + footer),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    for row, (label, indices) in enumerate(zip(shown, members, strict=True)):
        top = _GAP + row * cell_height
        room = names - 2 * _GAP
        draw.text((_GAP, top), _fit(class_names[label], font, room), "black", font)
        count = len(indices)
        note = (
            f"{max_per_class} of {count}" if count > max_per_class else "" if count else "no image"
        )
        draw.text((_GAP, top + line), note, "gray", font)
        for column, index in enumerate(indices[:max_per_class]):
            left = names + column * cell_width
            sheet.paste(_resized(Image.fromarray(pixels[index]), width, height), (left, top))
            text = f"{float(weights[index]):.2f}"
            middle = left + (width - font.getlength(text)) / 2
            draw.text((middle, top + height + 1), text, "black", font)
    if footer:
        text = f"{len(shown)} of {len(class_names)} classes, evenly spaced"
        draw.text((_GAP, sheet.height - footer), text, "gray", font)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


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


def _font() -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib and knows Latin, Greek and Cyrillic letters."""
    import matplotlib

    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE
    )


def _tidy(name: str) -> str:
    return " ".join(name.split())  # a line break would run into the row below


def _fit(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Shorten a name until it fits."""
    text = _tidy(text)
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"
