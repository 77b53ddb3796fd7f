"""Results of transfer as tables: a row for what students learned from first, columns for probe and fine-tuning."""

from collections.abc import Sequence
from typing import Any

from benchmarks.results.transfers import TRANSFERS as TRANSFER_RESULTS
from benchmarks.results.transfers import UNTRAINED, TransferRecord
from benchmarks.statistics.listings import Listing
from benchmarks.statistics.variants import without_seeds
from benchmarks.tables.folding import Score, grouped
from benchmarks.tables.notes import made_with
from benchmarks.tables.sealed import Scheme, SealedRow, SealedTable

TRANSFERS = "Transfer"


def _variant(record: TransferRecord) -> dict[str, Any]:
    """Return what tells a row from others: the start, and all settings of its set but seeds."""
    distilled = without_seeds(record.config.get("set"))
    return {"start": record.cell.start, "images": record.cell.images, "set": distilled}


TRANSFER_TABLES = Scheme(
    kind=TRANSFER_RESULTS,
    heading=lambda record: [record.cell.source, record.cell.target],
    conditions=("source", "target", "protocol"),
    method=lambda record: record.cell.start,
    variant=_variant,
    together=lambda record: [record.cell.start, record.cell.images],
    measures={"probe": "probe_top1", "fine-tuned": "tuned_top1"},
    rank=lambda row, _: Score.of([record.tuned_top1 for record in row.records]).mean,
)


def transfer_listings(records: Sequence[TransferRecord]) -> list[Listing]:
    """Fold results of transfer; only seeds are averaged.

    Args:
        records: In any order.

    Returns:
        A table for each pair of source and target dataset under one protocol; none without results.
    """
    listings = [_listing(table) for table in TRANSFER_TABLES.fold(records)]
    return sorted(listings, key=lambda listing: listing.title)


def _listing(table: SealedTable[TransferRecord]) -> Listing:
    first, measures = table.first.cell, TRANSFER_TABLES.measures
    columns = [f"{student}, {what}" for student in table.students for what in measures]
    rows = []
    for row in table.rows:
        scores = row.percents(table.students, list(measures.values()))
        rows.append([row.label, _images(row.records[0]), *scores])
    return Listing(
        f"From {first.source} to {first.target}"
        + (f" ({table.distinction})" if table.distinction else ""),
        _text(table.records),
        ["pre-trained on", "images", *columns],
        rows,
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
        f"target model of the method gives them. {made_with(records)}"
    )


def _images(record: TransferRecord) -> str:
    return "" if record.cell.start == UNTRAINED else f"{record.cell.images:,}"


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
    measures = TRANSFER_TABLES.measures
    lines = []
    for same in grouped(records, lambda record: [record.cell.student, record.cell.target]):
        student, cells = same[0].cell.student, []
        for start in starts:
            row = SealedRow(start, start, [r for r in same if r.cell.start == start])
            cells += row.percents([student], list(measures.values()))
        lines.append([student, same[0].cell.target, *cells])
    headers = [f"{start}: {what}" for start in starts for what in measures]
    align = ["left", "left"] + ["right"] * len(headers)
    title = f"Transfer from {records[0].cell.source}, accuracy on real test images in %:"
    table = tabulate(
        lines, ["student", "target", *headers], "simple", disable_numparse=True, colalign=align
    )
    return f"{title}\n{table}"
