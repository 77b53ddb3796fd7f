"""Tables of any kind as what is compared: a value for each row, student and pair of seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results.graphs import GraphRecord
from benchmarks.results.sealed import Record
from benchmarks.results.transfers import TransferRecord
from benchmarks.statistics.graphs import GRAPH_TABLES, samples_of
from benchmarks.statistics.transfers import TRANSFER_TABLES
from benchmarks.tables.folding import Table
from benchmarks.tables.sealed import SealedRow

Seeds = tuple[int, int | None]  # of student and distillation


@dataclass(frozen=True)
class SeededRow:
    """A method with fixed settings.

    Attributes:
        method: Its name.
        label: Its name with the settings that tell it from other rows of the method.
        values: Seeds and value of every result, as a fraction, by student.
    """

    method: str
    label: str
    values: Mapping[str, Sequence[tuple[Seeds, float]]]


@dataclass(frozen=True)
class SeededTable:
    """Rows that were made under equal conditions.

    Attributes:
        place: Dataset and budget, e.g. ``digits, 10 images per class``.
        short: The same where room is short, e.g. ``digits, ipc 10``.
        recipe: How students were trained, or what of them was tested.
        heading: The same with a word before it, where a heading names it.
        measure: What the values are.
        distinction: What tells it from another of the same heading; mostly empty.
        columns: Students.
        rows: The best first, as in the tables.
    """

    place: str
    short: str
    recipe: str
    heading: str
    measure: str
    distinction: str
    columns: list[str]
    rows: list[SeededRow]


def seeded(tables: Iterable[Table]) -> list[SeededTable]:
    """Take top-1 after the last epoch of tables of classification of images."""
    return [_of_images(table) for table in tables]


def _of_images(table: Table) -> SeededTable:
    rows = []
    for row in table.rows:
        values = {
            column: [((r.cell.seed, r.cell.distill_seed), r.metrics.top1_last) for r in results]
            for column, results in row.cells.items()
        }
        rows.append(SeededRow(row.method, row.label, values))
    return SeededTable(
        f"{table.dataset}, {table.ipc} images per class",
        f"{table.dataset}, ipc {table.ipc}",
        table.recipe,
        f"recipe {table.recipe}",
        "Top-1 after the last epoch",
        table.distinction,
        table.columns,
        rows,
    )


def seeded_graphs(records: Iterable[GraphRecord]) -> list[SeededTable]:
    """Take the scores on test graphs after the last epoch."""
    tables = []
    for table in GRAPH_TABLES.fold(records):
        cell, epochs = table.first.cell, f"{table.first.config['protocol']['epochs']} epochs"
        samples = samples_of(table.first)
        measure = {"roc-auc": "Area under the ROC curve"}.get(table.first.metric, "Accuracy")
        tables.append(
            SeededTable(
                f"{cell.dataset}, {cell.ipc} {samples} per class",
                f"{cell.dataset}, ipc {cell.ipc}",
                epochs,
                epochs,
                f"{measure} on real test {samples} after the last epoch",
                table.distinction,
                table.students,
                [_row(row, table.students, "test_last") for row in table.rows],
            )
        )
    return sorted(tables, key=_in_order)


def seeded_transfers(records: Iterable[TransferRecord]) -> list[SeededTable]:
    """Take the accuracies of transfer: a table for the linear probe, and one for fine-tuning.

    A network that was not pre-trained has no seed of a distillation: it is paired with every one that its table has.
    """
    tables = []
    for table in TRANSFER_TABLES.fold(records):
        cell = table.first.cell
        seeds = {record.cell.distill_seed for record in table.records}
        known = sorted(seed for seed in seeds if seed is not None)
        for what, field in TRANSFER_TABLES.measures.items():
            rows = [_row(row, table.students, field, known) for row in table.rows]
            place = f"{cell.source} to {cell.target}"
            measure = f"Top-1 ({what}) on real test images"
            tables.append(
                SeededTable(
                    place, place, what, what, measure, table.distinction, table.students, rows
                )
            )
    return sorted(tables, key=_in_order)


def _in_order(table: SeededTable) -> tuple[str, str, str]:
    return table.place, table.recipe, table.distinction


def _row(
    row: SealedRow[Record], students: Sequence[str], field: str, without_set: Sequence[int] = ()
) -> SeededRow:
    values = {}
    for student in students:
        pairs: list[tuple[Seeds, float]] = []
        for record in row.of_student(student):
            cell, value = record.cell, getattr(record, field)
            if record.config.get("set") is None and without_set:
                pairs += [((cell.seed, seed), value) for seed in without_set]
            else:
                pairs.append(((cell.seed, cell.distill_seed), value))
        if pairs:
            values[student] = pairs
    return SeededRow(row.method, row.label, values)
