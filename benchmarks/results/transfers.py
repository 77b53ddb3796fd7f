"""Result files of transfer: one JSON for each start, student, seed and target dataset, apart from those of classification."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.files import read_json, read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

TRANSFER_FORMAT = 1  # raised when a change of code changes numbers, or the meaning of the fields
TRANSFER = "ddoq-bench transfer"
UNTRAINED = "not pre-trained"  # the start of a network that learned from no set
_MEND = "Restore it, or run that cell again, which sets it aside."


@dataclass(frozen=True)
class TransferCell:
    """What a row of a transfer table is called.

    Attributes:
        source: Dataset that the set was made of.
        target: Dataset with the classes that are told apart.
        start: What the student learned from first: a method, ``real images``, or nothing (:data:`UNTRAINED`).
        images: How many images that were; 0 without any.
        student: Label of the student.
        seed: Of the student.
        distill_seed: Of the set; None where there is none, or it was imported.
    """

    source: str
    target: str
    start: str
    images: int
    student: str
    seed: int
    distill_seed: int | None


@dataclass(frozen=True)
class TransferRecord:
    """One result of transfer.

    Attributes:
        cell: What it is called.
        config: All that decides the numbers, as JSON values: set, target, student, seed, protocol. Its hash names the file.
        probe_top1: Accuracy on the real test images of a linear classifier on frozen features.
        tuned_top1: That of the whole network, fine-tuned.
        pretrain_loss: Of the last step of pre-training; None without one.
        cost: Seconds and parameters.
        distilled: Facts about the set: fingerprint, stored bytes, cost; empty without one.
        provenance: See :func:`ddoq.storage.provenance.provenance`.
        created: When, as ISO 8601 in UTC.
    """

    cell: TransferCell
    config: dict[str, Any]
    probe_top1: float
    tuned_top1: float
    pretrain_loss: float | None
    cost: dict[str, Any]
    distilled: dict[str, Any]
    provenance: dict[str, Any]
    created: str

    @property
    def config_hash(self) -> str:
        """Hash of the configuration."""
        return hash_config(self.config)

    def write(self, path: Path) -> None:
        """Write it with a checksum, atomically."""
        write_sealed(path, {"kind": TRANSFER, "format": TRANSFER_FORMAT, **asdict(self)})


def read_transfer(path: Path) -> TransferRecord:
    """Read a result of transfer and check it.

    Args:
        path: What :meth:`TransferRecord.write` wrote.

    Raises:
        DamagedError: If it is corrupt, edited, incomplete or renamed.
        UserError: If it is of another format.
    """
    values = read_sealed(path)
    if not isinstance(values, dict) or values.pop("kind", None) != TRANSFER:
        raise DamagedError(path, "is no result of transfer", _MEND)
    if values.pop("format", None) != TRANSFER_FORMAT:
        raise UserError(
            f"{path} is a result of transfer of another format. Use the version that wrote it."
        )
    try:
        values["cell"] = TransferCell(**values["cell"])
        record = TransferRecord(**{item.name: values[item.name] for item in fields(TransferRecord)})
    except (KeyError, TypeError) as error:
        raise DamagedError(path, f"lacks what a result holds ({error})", _MEND) from None
    if path.name != RunFolder(path.parent).transfer(record.config_hash).name:
        raise DamagedError(
            path, "does not hash to its own name: its config was edited or the file renamed", _MEND
        )
    return record


def find_transfer(path: Path) -> TransferRecord | None:
    """Return a stored result; None where there is none. A damaged one is set aside."""
    return read_or_set_aside(path, read_transfer)


def read_transfers(folder: Path) -> tuple[list[TransferRecord], list[str]]:
    """Read all results of transfer below a folder.

    Args:
        folder: Searched with all folders in it, but for those of smoke runs.

    Returns:
        The results, each configuration once, in a fixed order; and a message for every file that was left out.
    """
    records: dict[str, TransferRecord] = {}
    problems = []
    for path in sorted(folder.rglob("*.json")):
        if RunFolder.SMOKE in path.relative_to(folder).parts[:-1] or not _is_transfer(path):
            continue
        try:
            record = read_transfer(path)
        except UserError as error:
            problems.append(str(error))
            continue
        records.setdefault(record.config_hash, record)
    return sorted(records.values(), key=_order), problems


def _is_transfer(path: Path) -> bool:
    """Say whether a file says, or its name does, that it is a result of transfer."""
    if RunFolder.is_transfer(path):
        return True
    try:
        values = read_json(path)
    except UserError:
        return False
    return isinstance(values, Mapping) and values.get("kind") == TRANSFER


def _order(record: TransferRecord) -> tuple[Any, ...]:
    cell = record.cell
    seed = -1 if cell.distill_seed is None else cell.distill_seed
    first = (cell.source, cell.target, cell.start, cell.images, cell.student)
    return (*first, cell.seed, seed, record.config_hash)
