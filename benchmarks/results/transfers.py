"""Result files of transfer: one JSON for each start, student, seed and target dataset, apart from those of classification."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.results.sealed import Kind
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

TRANSFER_FORMAT = 1  # raised when a change of code changes numbers, or the meaning of the fields
TRANSFER = "ddoq-bench transfer"
UNTRAINED = "not pre-trained"  # the start of a network that learned from no set


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
        TRANSFERS.write(path, asdict(self))


def _build(values: dict[str, Any]) -> TransferRecord:
    values["cell"] = TransferCell(**values["cell"])
    return TransferRecord(**{item.name: values[item.name] for item in fields(TransferRecord)})


def _order(record: TransferRecord) -> tuple[Any, ...]:
    cell = record.cell
    seed = -1 if cell.distill_seed is None else cell.distill_seed
    first = (cell.source, cell.target, cell.start, cell.images, cell.student)
    return (*first, cell.seed, seed, record.config_hash)


TRANSFERS = Kind(
    TRANSFER,
    "transfer",
    TRANSFER_FORMAT,
    _build,
    RunFolder.transfer,
    RunFolder.is_transfer,
    _order,
)


def read_transfer(path: Path) -> TransferRecord:
    """Read a result of transfer and check it; see :meth:`Kind.read`."""
    return TRANSFERS.read(path)


def find_transfer(path: Path) -> TransferRecord | None:
    """Return a stored result; None where there is none. A damaged one is set aside."""
    return read_or_set_aside(path, read_transfer)


def read_transfers(folder: Path) -> tuple[list[TransferRecord], list[str]]:
    """Read all results of transfer below a folder; see :meth:`Kind.read_all`."""
    return TRANSFERS.read_all(folder)
