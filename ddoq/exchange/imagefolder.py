"""Distilled sets as a folder per class."""

import csv
import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from ddoq.data.imagefolder import check_names, list_images
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.escaping import csv_cell
from ddoq.exchange.classes import ClassList, class_folder
from ddoq.exchange.listing import Listing
from ddoq.exchange.matching import classes_of, match_classes
from ddoq.exchange.record import exported_labels
from ddoq.storage.fingerprints import hash_files

SIDECAR = "labels.csv"
_HEADER = ["file", "label", "key", "name", "weight"]


def encode_png(image: torch.Tensor) -> bytes:
    """Encode a uint8 image ``(3, h, w)`` without loss."""
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(stream, "PNG")
    return stream.getvalue()


def write_imagefolder(distilled: DistilledSet, folder: Path) -> None:
    """Write PNG files in a folder per class, and ``labels.csv`` with labels and weights in the set's own order.

    Args:
        distilled: What to write; every class needs an image.
        folder: An empty folder.

    Raises:
        UserError: If a class has no image: its folder would be empty, and ImageFolder readers would refuse it or shift all
            labels after it. Or if the set holds more than 8-bit images of classes.
    """
    names, count = distilled.class_names, len(distilled.class_names)
    labels = exported_labels(distilled).tolist()
    present = set(labels)
    if len(present) < count:
        empty = min(set(range(count)) - present)
        raise UserError(
            f"Class {empty} ({names[empty]}) has no image, and an ImageFolder cannot say so. "
            f"Export with --format parquet."
        )
    keys = distilled.metadata.get("class_keys") or names
    folders = [class_folder(label, name, count) for label, name in enumerate(names)]
    digits = max(5, len(str(len(distilled) - 1)))
    rows = []
    for position, (label, weight) in enumerate(
        zip(labels, distilled.weights.tolist(), strict=True)
    ):
        file = f"{folders[label]}/{position:0{digits}d}.png"
        # Nine significant digits give every float32 back.
        rows.append([file, label, csv_cell(keys[label]), csv_cell(names[label]), f"{weight:.9g}"])
    for name in folders:
        (folder / name).mkdir()

    def write(position: int) -> None:
        (folder / str(rows[position][0])).write_bytes(encode_png(distilled.images[position]))

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(write, range(len(rows))))
    with (folder / SIDECAR).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([_HEADER, *rows])


def list_exported(folder: Path, record: dict[str, Any]) -> Listing:
    """List what :func:`write_imagefolder` wrote, in the set's own order.

    Args:
        folder: The export.
        record: Its record.

    Returns:
        The images with labels and weights.

    Raises:
        UserError: If ``labels.csv`` is missing, changed beyond reading, or names a file that is not there.
    """
    path = folder / SIDECAR
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}). Export the set again.") from None
    if header != _HEADER or not rows:
        raise UserError(f"{path} must have rows under the header {','.join(_HEADER)}.")
    names = record["class_names"]
    keys = record["record"].get("class_keys") or list(map(str, range(len(names))))
    files, labels, weights = [], [], []
    for line, row in enumerate(rows, start=2):
        try:
            file, label, _, _, weight = row
            labels.append(int(label))
            weights.append(float(weight))
        except ValueError:
            raise UserError(f"{path}, line {line}: not a file, a label and a weight.") from None
        inside = PurePosixPath(file)
        if inside.is_absolute() or ".." in inside.parts or not (folder / inside).is_file():
            raise UserError(f"{path}, line {line}: there is no file {file!r} in {folder}.")
        if not 0 <= labels[-1] < len(names) or not math.isfinite(weights[-1]):
            raise UserError(f"{path}, line {line}: label {label} or weight {weight} cannot be.")
        files.append(folder / inside)
    return Listing(
        files,
        torch.tensor(labels),
        torch.tensor(weights, dtype=torch.float32),
        ClassList(names, keys, str(folder)),
        lambda position: str(files[position]),
        hash_files(files),
    )


def list_imagefolder(
    folder: Path, classes: ClassList | None = None, *, numeric: bool = False
) -> Listing:
    """List a folder per class that was made elsewhere.

    Args:
        folder: Class folders such as ``00003`` (RDED), ``new003`` (SRe2L), or named by key or name.
        classes: What they stand for; the folders themselves where omitted.
        numeric: Whether folder names are labels, whatever their length.

    Returns:
        The images by label, then by file name.

    Raises:
        UserError: If there are no class folders, images lie outside them, or they do not fit the classes.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = {path.name: path for path in entries if path.is_dir()}
    if not folders:
        raise UserError(f"{folder} has no class folders and no parquet file.")
    check_names(folder, folders)
    stray = [path for path in entries if path.is_file() and path.suffix.lower() in IMG_EXTENSIONS]
    if stray:
        raise UserError(
            f"{stray[0]} lies outside the class folders: move it into its class, or away."
        )
    names = list(folders)
    try:
        known = classes or classes_of(names, str(folder), numeric=numeric)
        labels = match_classes(names, known, str(folder), numeric=numeric)
    except UserError as error:
        inner = next((path for path in folders.values() if _holds_folders(path)), None)
        hint = f" If the class folders lie in {inner}, import that." if inner else ""
        raise UserError(f"{error}{hint}") from None
    files, numbers = [], []
    for name in sorted(names, key=labels.__getitem__):
        images = list_images(folders[name])
        if not images:
            raise UserError(f"{folders[name]} holds no image (class {known.title(labels[name])}).")
        files += images
        numbers += [labels[name]] * len(images)
    return Listing(
        files,
        torch.tensor(numbers),
        None,
        known,
        lambda position: str(files[position]),
        hash_files(files),
    )


def _holds_folders(path: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())
