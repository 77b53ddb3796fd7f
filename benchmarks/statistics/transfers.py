"""Results of transfer as tables: a row for what students learned from first, columns for probe and fine-tuning."""

from collections.abc import Sequence
from typing import Any

from benchmarks.results.transfers import UNTRAINED, TransferRecord
from benchmarks.statistics.listings import Listing
from benchmarks.statistics.variants import without_seeds
from benchmarks.tables.folding import Score, distinguish, grouped

TRANSFERS = "Transfer"
_PROBE, _TUNED = "probe", "fine-tuned"


def transfer_listings(records: Sequence[TransferRecord]) -> list[Listing]:
    """Fold results of transfer; only seeds are averaged.

    Args:
        records: In any order.

    Returns:
        A table for each pair of source and target dataset under one protocol; none without results.
    """
    listings = []
    groups = grouped(sorted(records, key=lambda record: record.config_hash), _conditions)
    for same in grouped(groups, lambda group: _heading(group[0])):
        distinctions = distinguish([_conditions(group[0]) for group in same])
        listings += [_listing(group, text) for group, text in zip(same, distinctions, strict=True)]
    return sorted(listings, key=lambda listing: listing.title)


def _heading(record: TransferRecord) -> list[str]:
    return [record.cell.source, record.cell.target]


def _conditions(record: TransferRecord) -> dict[str, Any]:
    config = record.config
    shared = ("source", "target", "protocol")
    return {"heading": _heading(record), **{name: config.get(name) for name in shared}}


def _variant(record: TransferRecord) -> dict[str, Any]:
    """Return what tells a row from others: the start, and all settings of its set but seeds."""
    distilled = without_seeds(record.config.get("set"))
    return {"start": record.cell.start, "images": record.cell.images, "set": distilled}


def _listing(records: Sequence[TransferRecord], distinction: str) -> Listing:
    first = records[0].cell
    students = sorted({record.cell.student for record in records})
    rows = []
    for same in grouped(grouped(records, _variant), lambda g: [g[0].cell.start, g[0].cell.images]):
        suffixes = distinguish([_variant(group[0]) for group in same])
        rows += [
            (_row_label(group[0], suffix), group)
            for group, suffix in zip(same, suffixes, strict=True)
        ]
    rows.sort(key=lambda row: (-_mean_tuned(row[1]), row[0]))
    columns = [f"{student}, {what}" for student in students for what in (_PROBE, _TUNED)]
    title = f"From {first.source} to {first.target}"
    return Listing(
        title + (f" ({distinction})" if distinction else ""),
        _text(records),
        ["pre-trained on", "images", *columns],
        [[label, _images(group[0]), *_scores(group, students)] for label, group in rows],
        1,
        first.target,
        0,
    )


def _text(records: Sequence[TransferRecord]) -> str:
    protocol = records[0].config["protocol"]
    return (
        "Top-1 accuracy on the real test set in %: of a linear probe on frozen features, and of the network fine-tuned for "
        f"{protocol['iterations']:,} steps of {protocol['batch_size']}. Students were pre-trained on images and target "
        f"vectors, without labels, for {protocol['pretrain_epochs']:,} passes. A cell is the mean ± the sample standard "
        "deviation over n results that differ in seeds alone. `real images` are drawn at random and have the vectors that the "
        "target model of the method gives them."
    )


def _row_label(record: TransferRecord, suffix: str) -> str:
    return record.cell.start + (f" [{suffix}]" if suffix else "")


def _images(record: TransferRecord) -> str:
    return "" if record.cell.start == UNTRAINED else f"{record.cell.images:,}"


def _scores(records: Sequence[TransferRecord], students: Sequence[str]) -> list[str]:
    cells = []
    for student in students:
        of_student = [record for record in records if record.cell.student == student]
        for name in ("probe_top1", "tuned_top1"):
            values = [getattr(record, name) for record in of_student]
            cells.append(Score.of(values).percent() if values else "")
    return cells


def _mean_tuned(records: Sequence[TransferRecord]) -> float:
    return Score.of([record.tuned_top1 for record in records]).mean


def transfer_table(records: Sequence[TransferRecord]) -> str:
    """Write the results of one run for the terminal: a line per student and target.

    Args:
        records: Of one set and its controls, under one protocol.

    Example:
        >>> transfer_table([])
        'No student has finished.'
    """
    from tabulate import tabulate

    if not records:
        return "No student has finished."
    starts = list(dict.fromkeys(record.cell.start for record in records))
    lines = []
    pairs = grouped(records, lambda record: [record.cell.student, record.cell.target])
    for same in pairs:
        cells = []
        for start in starts:
            of_start = [record for record in same if record.cell.start == start]
            for name in ("probe_top1", "tuned_top1"):
                values = [getattr(record, name) for record in of_start]
                cells.append(Score.of(values).percent() if values else "")
        lines.append([same[0].cell.student, same[0].cell.target, *cells])
    headers = [f"{start}: {what}" for start in starts for what in (_PROBE, _TUNED)]
    align = ["left", "left"] + ["right"] * len(headers)
    title = f"Transfer from {records[0].cell.source}, accuracy on real test images in %:"
    table = tabulate(
        lines, ["student", "target", *headers], "simple", disable_numparse=True, colalign=align
    )
    return f"{title}\n{table}"
