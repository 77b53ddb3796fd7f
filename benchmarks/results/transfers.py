"""Result files of transfer: one JSON for each start, student, seed and target dataset, apart from those of classification."""

from dataclasses import dataclass
from typing import Any

from benchmarks.results.sealed import Kind, SealedRecord
from ddoq.storage.run_folder import RunFolder

TRANSFER_FORMAT = 1  # raised when a change of code changes numbers, or the meaning of the fields
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

    @property
    def title(self) -> str:
        """Name of its run."""
        return f"{self.start}-to-{self.target}-{self.student}-s{self.seed}"


@dataclass(frozen=True)
class TransferRecord(SealedRecord):
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


TRANSFERS = Kind(
    name="ddoq-bench transfer",
    what="transfer",
    format=TRANSFER_FORMAT,
    record=TransferRecord,
    cell=TransferCell,
    order=("source", "target", "start", "images", "student"),
    path=RunFolder.transfer,
    lock=RunFolder.transfer_lock,
    checkpoint=RunFolder.transfer_checkpoint,
    is_named=RunFolder.is_transfer,
)
