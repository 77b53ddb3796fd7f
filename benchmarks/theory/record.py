"""The record of a study: what its report is made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.storage.files import read_sealed, write_sealed

KIND = "ddoq-bench theory"
FORMAT = 1  # raised when cells of an older version would mean something else


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum."""
    write_sealed(path, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Args:
        path: A file that ``ddoq-bench theory`` wrote.

    Raises:
        DamagedError: If it was changed, or is no JSON.
        UserError: If it is something else, or of another version.
    """
    record = read_sealed(path)
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise UserError(f"{path} is no record of `ddoq-bench theory`.")
    if record["config"]["format"] != FORMAT:
        raise UserError(
            f"{path} has format {record['config']['format']}; this version reads {FORMAT}. Run the command again."
        )
    return record
