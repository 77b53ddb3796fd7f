"""Results of graphs as tables: a row for each method, columns for students after the last and after the best epoch."""

from collections.abc import Sequence
from typing import Any

from benchmarks.results.graphs import GraphRecord
from benchmarks.statistics.listings import Listing
from benchmarks.statistics.variants import without_seeds
from benchmarks.tables.folding import Score, distinguish, grouped

GRAPHS = "Graphs"
RANDOM = "graph-random"
_METRICS = {"accuracy": "Accuracy", "roc-auc": "Area under the ROC curve"}
_COLUMNS = (("last", "test_last"), ("best on validation", "test_best"))


def graph_listings(records: Sequence[GraphRecord]) -> list[Listing]:
    """Fold results of graphs; only seeds are averaged.

    Args:
        records: In any order.

    Returns:
        A table for each dataset and number of graphs per class under one protocol; none without results.
    """
    listings = []
    groups = grouped(sorted(records, key=lambda record: record.config_hash), _conditions)
    for same in grouped(groups, lambda group: _heading(group[0])):
        distinctions = distinguish([_conditions(group[0]) for group in same])
        listings += [_listing(group, text) for group, text in zip(same, distinctions, strict=True)]
    return sorted(listings, key=lambda listing: (listing.dataset, listing.ipc, listing.title))


def _heading(record: GraphRecord) -> list[Any]:
    return [record.cell.dataset, record.cell.ipc]


def _conditions(record: GraphRecord) -> dict[str, Any]:
    config = record.config
    return {
        "heading": _heading(record),
        **{name: config.get(name) for name in ("data", "protocol")},
    }


def _variant(record: GraphRecord) -> dict[str, Any]:
    """Return what tells a row from others: the method, and all settings of its set but seeds."""
    return {"method": record.cell.method, "set": without_seeds(record.config.get("set"))}


def _listing(records: Sequence[GraphRecord], distinction: str) -> Listing:
    first = records[0].cell
    students = sorted({record.cell.student for record in records})
    rows = []
    for same in grouped(grouped(records, _variant), lambda group: group[0].cell.method):
        suffixes = distinguish([_variant(group[0]) for group in same])
        rows += [
            (group[0].cell.method + (f" [{suffix}]" if suffix else ""), group)
            for group, suffix in zip(same, suffixes, strict=True)
        ]
    rows.sort(key=lambda row: (-_mean(row[1], students), row[0]))
    columns = [f"{student}, {what}" for student in students for what, _ in _COLUMNS]
    return Listing(
        f"{first.dataset}, {first.ipc} graphs per class"
        + (f" ({distinction})" if distinction else ""),
        _text(records),
        ["method", *columns, "mean, last", "stored bytes"],
        [
            [label, *_scores(group, students), f"{100 * _mean(group, students):.1f}", _bytes(group)]
            for label, group in rows
        ],
        1,
        first.dataset,
        first.ipc,
    )


def _text(records: Sequence[GraphRecord]) -> str:
    first = records[0]
    protocol, data = first.config["protocol"], first.config["data"]
    missing = (
        ""
        if any(record.cell.method == RANDOM for record in records)
        else f" **Random graphs are missing from this table**: run `{RANDOM}` with the same dataset and graphs per class."
    )
    notes = "".join(f" {note}" for note in data.get("notes", ()))
    return (
        f"{_METRICS.get(first.metric, first.metric)} on {data['test_graphs']:,} real test graphs in %, of students that learned "
        f"{protocol['epochs']:,} epochs in batches of {protocol['batch_size']} from the set alone: after the last epoch, and "
        f"after the one that was best on {data['val_graphs']:,} real validation graphs (looked at every "
        f"{protocol['validate_every']}). A cell is the mean ± the sample standard deviation over n results that differ in "
        f"seeds alone.{notes}{missing}"
    )


def _scores(records: Sequence[GraphRecord], students: Sequence[str]) -> list[str]:
    cells = []
    for student in students:
        of_student = [record for record in records if record.cell.student == student]
        for _, name in _COLUMNS:
            values = [getattr(record, name) for record in of_student]
            cells.append(Score.of(values).percent() if values else "")
    return cells


def _mean(records: Sequence[GraphRecord], students: Sequence[str]) -> float:
    """Return the mean over those students that the row has, of their means over seeds."""
    means = []
    for student in students:
        values = [record.test_last for record in records if record.cell.student == student]
        if values:
            means.append(Score.of(values).mean)
    return sum(means) / len(means)


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
    students = list(dict.fromkeys(record.cell.student for record in records))
    lines = [[student, *_scores(records, [student])] for student in students]
    headers = ["student", *(f"test, {what}" for what, _ in _COLUMNS)]
    align = ["left", "right", "right"]
    table = tabulate(lines, headers, "simple", disable_numparse=True, colalign=align)
    title = (
        f"{first.cell.method} on {first.cell.dataset}, {first.cell.ipc} graphs per class, {first.metric} on real test graphs "
        "in %:"
    )
    return f"{title}\n{table}"
