"""What the images of a split are: which cannot be read, sizes, modes, and which are equal."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from ddoq.console import Progress
from ddoq.data.decoding import Encoded, UnreadableImagesError, decode_whole, open_image
from ddoq.data.splits import ImageSplit

_AT_ONCE = 256  # images
_MODES = {
    "1": "black and white",
    "L": "grey",
    "P": "palette",
    "LA": "grey with alpha",
    "PA": "palette with alpha",
    "RGBA": "RGB with alpha",
}


@dataclass(frozen=True)
class Place:
    """An image in a split.

    Attributes:
        name: Its file or row.
        label: Its label.
    """

    name: str
    label: int


@dataclass
class Inspection:
    """What was seen in a split.

    Attributes:
        images: How many there are.
        faults: What is wrong with each that cannot be used.
        sizes: Number of images by width and height.
        modes: Number of images by mode, e.g. ``RGB``, ``grey``, ``CMYK``.
        formats: Number of images by codec; ``tensor`` where they are not stored encoded.
        places: Where images are, by a hash of their decoded pixels.
    """

    images: int = 0
    faults: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    places: dict[bytes, list[Place]] = field(default_factory=dict)

    def contradictions(self) -> list[list[Place]]:
        """List equal images that have different labels."""
        groups = [places for places in self.places.values() if len(places) > 1]
        return [places for places in groups if len({place.label for place in places}) > 1]

    def repeated(self) -> int:
        """Count the images that are equal to an earlier one."""
        return sum(len(places) - 1 for places in self.places.values())

    def shared(self, other: "Inspection") -> list[tuple[Place, Place]]:
        """Pair the images of another split with an equal one of this split."""
        return [
            (self.places[digest][0], place)
            for digest, places in other.places.items()
            if digest in self.places
            for place in places
        ]


@dataclass(frozen=True)
class _Seen:
    fault: str = ""
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    format: str = "tensor"
    digest: bytes = b""


def inspect_split(split: ImageSplit, title: str) -> Inspection:
    """Decode every image of a split in its own size.

    Args:
        split: Any split.
        title: What lines of progress and images without a file are called by.

    Returns:
        What was seen. Two images are equal if their decoded pixels are.
    """
    result = Inspection()
    progress = Progress(f"check, {title}", len(split), unit="images")
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block in torch.arange(len(split)).split(_AT_ONCE):
            indices = block.tolist()
            stored = split.sources(indices)
            names = [f"{title}, image {i}" for i in indices]
            seen: Iterator[_Seen]
            if stored is None:
                seen = map(_look_at_tensor, split.load(indices))
            else:
                names = [item.place for item in stored]
                seen = pool.map(_look, stored)
            labels = split.labels[block].tolist()
            _add(result, seen, list(map(Place, names, labels)))
            progress.update(result.images)
    return result


def _add(result: Inspection, seen: Iterator[_Seen], places: Sequence[Place]) -> None:
    for item, place in zip(seen, places, strict=True):
        result.images += 1
        if item.fault:
            result.faults.append(item.fault)
            continue
        result.sizes[item.size] += 1
        result.modes[item.mode] += 1
        result.formats[item.format] += 1
        result.places.setdefault(item.digest, []).append(place)


def _look(stored: Encoded) -> _Seen:
    try:
        content = stored.given()
        pixels, kind = decode_whole(content, stored.place, stored.limits)
    except UnreadableImagesError as error:
        return _Seen(error.faults[0])
    with open_image(content, stored.limits) as image:
        mode = _mode(image)
    return _Seen("", (pixels.shape[2], pixels.shape[1]), mode, kind, _digest(pixels))


def _look_at_tensor(pixels: Tensor) -> _Seen:
    size = (pixels.shape[2], pixels.shape[1])
    return _Seen("", size, "RGB", "tensor", _digest(pixels))


def _mode(image: Image.Image) -> str:
    # Pillow decodes 16-bit colours to 8 bit under the mode RGB; only its raw mode tells.
    raw = " ".join(str(tile[-1]) for tile in getattr(image, "tile", []))
    if ";16" in image.mode or ";16" in raw or image.mode == "I":
        return f"16-bit {'grey' if image.mode.startswith('I') else image.mode}"
    name = _MODES.get(image.mode, image.mode)
    if "transparency" in image.info and "alpha" not in name:
        return f"{name} with transparency"
    return name


def _digest(pixels: Tensor) -> bytes:
    digest = hashlib.sha256(str(tuple(pixels.shape)).encode())
    digest.update(pixels.contiguous().numpy().data)
    return digest.digest()[:16]
