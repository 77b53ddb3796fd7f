"""What travels with an export, so that importing it gives the same set again; and folders that appear whole."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.decoding.form import SetForm
from ddoq.distillation.distilled_set import DistilledSet, FingerprintError
from ddoq.distillation.set_files import check_format
from ddoq.errors import UserError
from ddoq.storage.files import load_tensors, read_sealed, save_tensors, write_sealed
from ddoq.storage.run_folder import SetFolder

# Raised when a reader of the old layout would misread the new one. 2: further tensors, decoder, transform and recipe;
# an export that has none of them is still of format 1.
FORMAT = 2
RECORD = SetFolder.RECORD  # as of a set of our own
_KIND = "ddoq-bench export"
_KEYS = ("layout", "fingerprint", "class_names", "record")
_FURTHER = "further.safetensors"  # targets, stages and transform, in the order of the set
_LISTED = ("images", "label", "weight")  # what the layouts hold themselves


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes ``target`` when the block ends well.

    Args:
        target: The folder to make; its parents are made if need be.

    Yields:
        A folder beside it to write into.

    Raises:
        UserError: If ``target`` holds something already, or cannot be made.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists already: remove it, or choose another --output.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise UserError(f"Cannot write {target}: {error.strerror}.") from None
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes folders that nobody else may enter
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def exported_labels(distilled: DistilledSet) -> Tensor:
    """Return the labels of a set that folders of PNG files can hold, int64 ``(n,)``.

    Raises:
        UserError: If its images are no 8-bit pixels, or some belong to no class.
    """
    if distilled.parts:
        raise UserError(
            f"The set holds {', '.join(distilled.parts)} for its decoder {distilled.form.decoder.name!r}, which no "
            "export takes: share the folder of the set itself."
        )
    if distilled.images.dtype != torch.uint8:
        raise UserError(
            "The set holds float images, which PNG files cannot: round them to 8 bit with --set-precision uint8, or share "
            "the folder of the set itself."
        )
    if distilled.labels is None:
        raise UserError(
            "The images of the set belong to no class, and an export needs one for each: share the folder of the set "
            "itself."
        )
    return distilled.labels


def write_record(folder: Path, distilled: DistilledSet, layout: str) -> None:
    """Write what images, labels and weights alone do not tell.

    Args:
        folder: The export.
        distilled: What it holds.
        layout: How it is stored: ``imagefolder`` or ``parquet``.
    """
    further = {k: v for k, v in distilled.tensors().items() if k not in _LISTED}
    read = {k: distilled.record().get(k) for k in ("decoder", "target_kind", "recipe")}
    plain = not further and distilled.form == SetForm()
    record = {
        "kind": _KIND,
        "format": 1 if plain else FORMAT,
        "layout": layout,
        "fingerprint": distilled.fingerprint,
        "class_names": distilled.class_names,
        **({} if plain else {"read": {k: v for k, v in read.items() if v is not None}}),
        "record": distilled.metadata,
    }
    if further:
        save_tensors(folder / _FURTHER, further, {"fingerprint": distilled.fingerprint})
    write_sealed(folder / RECORD, record)


def restore(
    folder: Path,
    record: Mapping[str, Any],
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
) -> DistilledSet:
    """Put an exported set together again.

    Args:
        folder: The export.
        record: Its record.
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``.
        weights: float32 ``(n,)``.

    Returns:
        The set.

    Raises:
        UserError: If anything differs from what was exported.
    """
    tensors = {"images": images, "label": labels, "weight": weights}
    if (folder / _FURTHER).is_file():
        tensors |= load_tensors(folder / _FURTHER)[0]
    read = {"decoder": {"name": "pixels"}, **record.get("read", {})}
    known = {key: record[key] for key in ("class_names", "fingerprint")}
    try:
        return DistilledSet.assemble(tensors, {**record["record"], **known, **read}, folder)
    except FingerprintError:
        raise UserError(
            f"{folder} is not what was exported: its images, labels or weights were changed. Export it again, or delete "
            f"{folder / RECORD} to import it as a set of its own."
        ) from None


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of an export.

    Args:
        folder: Any folder.

    Returns:
        What :func:`write_record` wrote; None if the folder is no export of this package.

    Raises:
        UserError: If the record is damaged or of another format.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    record = read_sealed(path)
    if not isinstance(record, dict) or record.get("kind") != _KIND:
        return None
    check_format(record.get("format"), FORMAT, path)
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}. Restore it, or export the set again.")
    if not isinstance(record["record"], dict) or not isinstance(record["class_names"], list):
        raise UserError(f"{path}: `record` or `class_names` is damaged. Export the set again.")
    return record
