"""What travels with an export, so that importing it gives the same set again; and folders that appear whole."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.storage.files import read_json, write_json
from ddoq.storage.run_folder import SetFolder

FORMAT = 1  # raised when a reader of the old layout would misread the new one
RECORD = SetFolder.RECORD  # as of a set of our own
_KIND = "ddoq-bench export"
_KEYS = ("layout", "fingerprint", "class_names", "record")


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


def write_record(folder: Path, distilled: DistilledSet, layout: str) -> None:
    """Write what images, labels and weights alone do not tell.

    Args:
        folder: The export.
        distilled: What it holds.
        layout: How it is stored: ``imagefolder`` or ``parquet``.
    """
    record = {
        "kind": _KIND,
        "format": FORMAT,
        "layout": layout,
        "fingerprint": distilled.fingerprint,
        "class_names": distilled.class_names,
        "record": distilled.metadata,
    }
    write_json(folder / RECORD, record)


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
    record = read_json(path)
    if not isinstance(record, dict) or record.get("kind") != _KIND:
        return None
    if record.get("format") != FORMAT:
        raise UserError(f"{path} has format {record.get('format')!r}; this version reads {FORMAT}.")
    missing = [key for key in _KEYS if key not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}. Restore it, or export the set again.")
    if not isinstance(record["record"], dict) or not isinstance(record["class_names"], list):
        raise UserError(f"{path}: `record` or `class_names` is damaged. Export the set again.")
    return record
