"""Result files of graphs: one JSON for each set of graphs, student and seed, apart from those of images."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.results.sealed import Kind
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.fingerprints import hash_config
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


@dataclass(frozen=True)
class GraphRecord:
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

    @property
    def config_hash(self) -> str:
        """Hash of the configuration."""
        return hash_config(self.config)

    def write(self, path: Path) -> None:
        """Write it with a checksum, atomically."""
        GRAPHS.write(path, asdict(self))


def _build(values: dict[str, Any]) -> GraphRecord:
    values["cell"] = GraphCell(**values["cell"])
    return GraphRecord(**{item.name: values[item.name] for item in fields(GraphRecord)})


def _order(record: GraphRecord) -> tuple[Any, ...]:
    cell = record.cell
    seed = -1 if cell.distill_seed is None else cell.distill_seed
    return cell.dataset, cell.ipc, cell.method, cell.student, cell.seed, seed, record.config_hash


GRAPHS = Kind(
    "ddoq-bench graphs",
    "graphs",
    GRAPHS_FORMAT,
    _build,
    RunFolder.graph_result,
    RunFolder.is_graph_result,
    _order,
)


def find_graph_result(path: Path) -> GraphRecord | None:
    """Return a stored result; None where there is none. A damaged one is set aside."""
    return read_or_set_aside(path, GRAPHS.read)
