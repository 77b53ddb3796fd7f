"""Results of graphs as tables: a row for each method, columns for students after the last and after the best epoch."""

from collections.abc import Sequence
from typing import Any

from benchmarks.results.graphs import GRAPHS as GRAPH_RESULTS
from benchmarks.results.graphs import GraphRecord
from benchmarks.statistics.listings import Listing
from benchmarks.statistics.variants import without_seeds
from benchmarks.tables.notes import made_with
from benchmarks.tables.sealed import Scheme, SealedRow, SealedTable

GRAPHS = "Graphs"
RANDOM = {"graphs": "graph-random", "nodes": "node-random"}
_METRICS = {"accuracy": "Accuracy", "roc-auc": "Area under the ROC curve"}


def _variant(record: GraphRecord) -> dict[str, Any]:
    """Return what tells a row from others: the method, and all settings of its set but seeds."""
    return {"method": record.cell.method, "set": without_seeds(record.config.get("set"))}


def _mean(row: SealedRow[GraphRecord], students: Sequence[str]) -> float:
    """Return the mean over those students that the row has, of their means over seeds."""
    scores = [row.score(student, "test_last") for student in students]
    means = [score.mean for score in scores if score]
    return sum(means) / len(means)


GRAPH_TABLES = Scheme(
    kind=GRAPH_RESULTS,
    heading=lambda record: [record.cell.dataset, record.cell.ipc],
    conditions=("data", "protocol"),
    method=lambda record: record.cell.method,
    variant=_variant,
    together=lambda record: record.cell.method,
    measures={"last": "test_last", "best on validation": "test_best"},
    rank=_mean,
)


def graph_listings(records: Sequence[GraphRecord]) -> list[Listing]:
    """Fold results of graphs; only seeds are averaged.

    Args:
        records: In any order.

    Returns:
        A table for each dataset and number of graphs, or nodes, per class under one protocol; none without results.
    """
    listings = [_listing(table) for table in GRAPH_TABLES.fold(records)]
    return sorted(listings, key=lambda listing: (listing.dataset, listing.ipc, listing.title))


def _listing(table: SealedTable[GraphRecord]) -> Listing:
    first, measures = table.first.cell, GRAPH_TABLES.measures
    columns = [f"{student}, {what}" for student in table.students for what in measures]
    rows = []
    for row in table.rows:
        mean = f"{100 * _mean(row, table.students):.1f}"
        scores = row.percents(table.students, list(measures.values()))
        rows.append([row.label, *scores, mean, _bytes(row.records)])
    return Listing(
        f"{first.dataset}, {first.ipc} {samples_of(table.first)} per class"
        + (f" ({table.distinction})" if table.distinction else ""),
        _text(table.records),
        ["method", *columns, "mean, last", "stored bytes"],
        rows,
        1,
        first.dataset,
        first.ipc,
    )


def _text(records: Sequence[GraphRecord]) -> str:
    first = records[0]
    protocol, data, holds = first.config["protocol"], first.config["data"], samples_of(first)
    missing = (
        ""
        if any(record.cell.method == RANDOM[holds] for record in records)
        else f" **Random {holds} are missing from this table**: run `{RANDOM[holds]}` with the same dataset and {holds} per class."
    )
    notes = "".join(f" {note}" for note in data.get("notes", ()))
    return (
        f"{_METRICS.get(first.metric, first.metric)} on {data[f'test_{holds}']:,} real test {holds} in %, of students that learned "
        f"{protocol['epochs']:,} epochs in batches of {protocol['batch_size']} from the set alone: after the last epoch, and "
        f"after the one that was best on {data[f'val_{holds}']:,} real validation {holds} (looked at every "
        f"{protocol['validate_every']}). A cell is the mean ± the sample standard deviation over n results that differ in "
        f"seeds alone.{notes}{missing} {made_with(records)}"
    )


def samples_of(record: GraphRecord) -> str:
    """Say what the samples of a result are: ``graphs`` or ``nodes``."""
    return str(record.config["data"].get("holds", "graphs"))


def _bytes(records: Sequence[GraphRecord]) -> str:
    stored = {record.distilled.get("fingerprint"): record.distilled for record in records}
    sizes = [facts["stored_bytes"] for facts in stored.values() if "stored_bytes" in facts]
    return f"{round(sum(sizes) / len(sizes)):,}" if sizes else ""


def graph_table(records: Sequence[GraphRecord]) -> str:
    """Write the results of one run for the terminal: a line per student.

    Args:
        records: Of one set, under one protocol.

    Example:
        >>> graph_table([])
        'No student has finished.'
    """
    from tabulate import tabulate

    if not records:
        return "No student has finished."
    first = records[0]
    row = SealedRow(first.cell.method, first.cell.method, list(records))
    students = list(dict.fromkeys(record.cell.student for record in records))
    measures = GRAPH_TABLES.measures
    lines = [[student, *row.percents([student], list(measures.values()))] for student in students]
    headers = ["student", *(f"test, {what}" for what in measures)]
    align = ["left", "right", "right"]
    table = tabulate(lines, headers, "simple", disable_numparse=True, colalign=align)
    title = (
        f"{first.cell.method} on {first.cell.dataset}, {first.cell.ipc} {samples_of(first)} per class, {first.metric} on real test "
        f"{samples_of(first)} in %:"
    )
    return f"{title}\n{table}"
