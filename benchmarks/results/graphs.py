"""Result files of graphs: one JSON for each set of graphs, student and seed, apart from those of images."""

from dataclasses import dataclass
from typing import Any

from benchmarks.results.sealed import Kind, SealedRecord
from ddoq.storage.run_folder import RunFolder

GRAPHS_FORMAT = 1  # raised when a change of code changes numbers, or the meaning of the fields


@dataclass(frozen=True)
class GraphCell:
    """What a row of a table of graphs is called.

    Attributes:
        dataset: Dataset that the set was made of, and that students are tested on.
        method: What made the set.
        ipc: Graphs per class.
        student: Label of the student.
        seed: Of the student.
        distill_seed: Of the set; None where it was imported.
    """

    dataset: str
    method: str
    ipc: int
    student: str
    seed: int
    distill_seed: int | None

    @property
    def title(self) -> str:
        """Name of its run."""
        return f"{self.method}-ipc{self.ipc}-{self.student}-s{self.seed}"


@dataclass(frozen=True)
class GraphRecord(SealedRecord):
    """One result of graphs.

    Attributes:
        cell: What it is called.
        config: All that decides the numbers, as JSON values: dataset, set, student, seed, protocol. Its hash names the file.
        metric: ``accuracy`` or ``roc-auc``: what the scores are.
        test_last: On real test graphs after the last epoch.
        test_best: On real test graphs after the epoch that was best on validation graphs.
        val_best: On validation graphs after that epoch.
        best_epoch: Which one, from 1 on.
        train_loss: Mean of the last epoch.
        cost: Seconds and parameters.
        distilled: Facts about the set: fingerprint, graphs, nodes, edges, stored bytes, cost.
        provenance: See :func:`ddoq.storage.provenance.provenance`.
        created: When, as ISO 8601 in UTC.
        run: What of the run's configuration decides numbers, see :func:`benchmarks.results.rerun.rerun_config`; None in
            older files.
    """

    cell: GraphCell
    config: dict[str, Any]
    metric: str
    test_last: float
    test_best: float
    val_best: float
    best_epoch: int
    train_loss: float
    cost: dict[str, Any]
    distilled: dict[str, Any]
    provenance: dict[str, Any]
    created: str
    run: dict[str, Any] | None = None


GRAPHS = Kind(
    name="ddoq-bench graphs",
    what="graphs",
    format=GRAPHS_FORMAT,
    record=GraphRecord,
    cell=GraphCell,
    order=("dataset", "ipc", "method", "student"),
    path=RunFolder.graph_result,
    lock=RunFolder.graph_lock,
    checkpoint=RunFolder.graph_checkpoint,
    is_named=RunFolder.is_graph_result,
)
