"""The files of a distilled set: named tensors and a record, in this format and earlier ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import load_tensors, read_sealed, save_tensors, write_sealed
from ddoq.storage.run_folder import SetFolder

# Raised when a reader of the old layout would misread the new one. 1: uint8 images, label and weight alone.
FORMAT = 2

# What the record says of the tensors; everything else in it says how they were made.
RESERVED = ("format", "decode", "decoder", "target_kind", "recipe", "class_names", "fingerprint")


def write_set_files(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write both files; the tensors come last, so a folder that has them is whole.

    Args:
        folder: Where to; made if need be.
        tensors: Of the set, by name.
        record: JSON values.
    """
    write_sealed(SetFolder(folder).record, {"format": FORMAT, **record})
    save_tensors(SetFolder(folder).tensors, tensors, {"format": FORMAT})


def has_set_files(folder: Path) -> bool:
    """Say whether a whole set is stored there."""
    return SetFolder(folder).tensors.is_file()


def read_set_files(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read both files; a set of an earlier format comes as one of this format.

    Args:
        folder: What :func:`write_set_files` wrote.

    Returns:
        Tensors and record.

    Raises:
        DamagedError: If it is corrupt, or lacks what every set has.
        UserError: If it is missing or of a newer format.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder with a distilled set.")
    path = SetFolder(folder).record
    record = read_sealed(path)
    if not isinstance(record, dict):
        raise DamagedError(path, "is no record of a distilled set")
    if "format" in record:  # a newer one may lack what follows
        check_format(record["format"], FORMAT, path)
    if record.get("format") == 1:
        record = {**record, "decoder": {"name": "pixels"}}
    missing = {"format", "decoder", "class_names", "fingerprint"} - set(record)
    if missing:
        raise DamagedError(path, f"lacks {', '.join(sorted(missing))}")
    tensors, _ = load_tensors(SetFolder(folder).tensors)
    absent = [name for name in ("weight",) if name not in tensors]
    absent += [] if tensors.keys() & {"images", "data"} else ["images"]
    absent += [] if tensors.keys() & {"label", "target"} else ["label"]
    if absent:
        raise DamagedError(SetFolder(folder).tensors, f"lacks the tensor {', '.join(absent)!r}")
    return tensors, record


def check_format(version: Any, newest: int, path: Path) -> None:
    """Refuse formats that this version does not know.

    Args:
        version: What the file says.
        newest: The newest format that is known; all earlier ones are, too.
        path: The file.

    Raises:
        UserError: If it is newer, or no format.
    """
    if not isinstance(version, int) or version < 1:
        raise UserError(f"{path} has format {version!r}, which is none: it must be 1 to {newest}.")
    if version > newest:
        raise UserError(
            f"{path} has format {version}: it was written by a newer version of this package; this one reads formats up to "
            f"{newest}. Use the newer version."
        )
