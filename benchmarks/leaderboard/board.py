"""The leaderboard: tables folded from result files, each followed by how its numbers were made."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.leaderboard.latex import latex
from benchmarks.results.columns import flat
from benchmarks.results.files import Failure, Result, read_failures, read_folder
from benchmarks.results.graphs import GRAPHS as GRAPH_RESULTS
from benchmarks.results.graphs import GraphRecord
from benchmarks.results.transfers import TRANSFERS as TRANSFER_RESULTS
from benchmarks.results.transfers import TransferRecord
from benchmarks.statistics.graphs import GRAPH_TABLES, GRAPHS, graph_listings
from benchmarks.statistics.listings import (
    CEILING,
    Listing,
    intervals,
    robustness_csv,
    robustness_listings,
    stability_listings,
)
from benchmarks.statistics.transfers import TRANSFER_TABLES, TRANSFERS, transfer_listings
from benchmarks.tables.folding import Row, Table, fold, in_order
from benchmarks.tables.matching import ceilings
from benchmarks.tables.notes import provenance_notes
from benchmarks.tables.sealed import sealed_csv
from benchmarks.tables.summaries import known_further, seeds_that_vary
from ddoq.errors import UserError, suggest
from ddoq.escaping import csv_text, markdown, markdown_table

FORMATS = ("markdown", "csv", "robust-csv", "transfer-csv", "graphs-csv", "latex", "html")
_OF_OTHERS = {"transfer-csv": "transfer", "graphs-csv": "graphs"}
_INTRODUCTION = """# Leaderboard

Top-1 accuracy on the real test set after the last epoch, in %. A cell is the mean ± the sample standard deviation
over n results that differ in seeds alone; an empty cell was not run. Rows are ordered by their mean over all students."""


@dataclass(frozen=True)
class Board:
    """What a folder holds.

    Attributes:
        results: Whole results.
        problems: A message for every file that was left out.
        failures: Cells that ended in an error and have no later result.
        notes: What else is to be said of files; it keeps no table from being whole.
        transfers: Whole results of transfer.
        graphs: Whole results of graphs.
    """

    results: list[Result]
    problems: list[str]
    failures: list[Failure]
    notes: Sequence[str] = ()
    transfers: Sequence[TransferRecord] = ()
    graphs: Sequence[GraphRecord] = ()

    @classmethod
    def read(cls, folder: Path) -> "Board":
        """Read a folder with all folders in it."""
        reading = read_folder(folder)
        failures, unreadable = read_failures(folder, reading.results)
        transfers, damaged = TRANSFER_RESULTS.read_all(folder)
        graphs, spoiled = GRAPH_RESULTS.read_all(folder)
        problems = reading.problems + unreadable + damaged + spoiled
        return cls(reading.results, problems, failures, reading.notes, transfers, graphs)

    @property
    def others(self) -> dict[str, Callable[[], str]]:
        """What writes the CSV of results of other kinds, where there are any."""
        found: dict[str, Callable[[], str]] = {}
        if self.transfers:
            found["transfer"] = lambda: sealed_csv(self.transfers, TRANSFER_TABLES)
        if self.graphs:
            found["graphs"] = lambda: sealed_csv(self.graphs, GRAPH_TABLES)
        return found

    def listings(self) -> list[tuple[str, list[Listing]]]:
        """Fold the results of other kinds; a heading and tables for each."""
        return [
            (TRANSFERS, transfer_listings(self.transfers)),
            (GRAPHS, graph_listings(self.graphs)),
        ]

    def complaints(self) -> list[str]:
        """List what keeps the tables from being whole."""
        return self.problems + [_failed(failure) for failure in self.failures]


def _failed(failure: Failure) -> str:
    cell = failure.cell
    lines = failure.error.strip().splitlines() or ["no message"]
    seeds = f"seed {cell.seed}, distillation seed {cell.distill_seed}"
    what = (
        f"{cell.method} on {cell.dataset}, ipc {cell.ipc}, {cell.student}, {seeds}, {cell.recipe}"
    )
    return f"Failed: {what}: {lines[-1].strip()}"


def leaderboard(folder: Path, format: str = "markdown") -> str:
    """Fold the results below a folder.

    Args:
        folder: Searched with all folders in it.
        format: ``markdown`` (tables), ``csv`` (one line per result of classification of images, unrounded; without any
            those of the one other kind), ``robust-csv`` (label-robust and augmentation-robust scores), ``transfer-csv``
            and ``graphs-csv`` (as ``csv``, of these kinds), ``latex`` (booktabs tables) or ``html`` (one page that
            needs no network).

    Returns:
        The text, the same for the same results.

    Raises:
        UserError: If the folder or the format does not exist, or holds no result.
    """
    return render(Board.read(folder), folder, format)


def render(board: Board, folder: Path, format: str) -> str:
    """Write what was read from ``folder``; see :func:`leaderboard`."""
    if format not in FORMATS:
        raise UserError(f"Unknown format {format!r}. {suggest(format, FORMATS)}")
    if not board.results and not board.others:
        raise UserError(f"There is no usable result in {folder}: run `ddoq-bench fit` first.")
    if format.endswith("csv"):
        return _csv(board, folder, format)
    if format == "latex":
        listings = [listing for _, further in board.listings() for listing in further]
        return latex(fold(board.results), board.complaints(), listings)
    if format == "html":  # imported where used: the template engine, and the published numbers
        from benchmarks.leaderboard.html_page import page

        return page(board.results, folder, board.complaints(), board.transfers, board.graphs)
    tables = fold(board.results)
    parts = [_INTRODUCTION, *(_markdown(table, tables) for table in tables)]
    derived = [*robustness_listings(tables), *stability_listings(tables)]
    parts += [f"{markdown(f'## {each.title}')}\n\n{_listing(each)}" for each in derived]
    for heading, listings in board.listings():
        parts += [f"## {heading}"] if listings else []
        parts += [f"{markdown(f'### {each.title}')}\n\n{_listing(each)}" for each in listings]
    complaints = board.complaints()
    if complaints:
        parts.append("## Left out\n\n" + "\n".join(f"- {markdown(text)}" for text in complaints))
    return "\n\n".join(parts) + "\n"


def _csv(board: Board, folder: Path, format: str) -> str:
    """Write one line per result of one kind."""
    others = board.others
    if format in _OF_OTHERS or (format == "csv" and not board.results):
        kinds = [_OF_OTHERS[format]] if format in _OF_OTHERS else list(others)
        if len(kinds) > 1:
            names = " or ".join(f"--format {name}" for name in _OF_OTHERS)
            raise UserError(
                f"{folder} holds results of {' and of '.join(kinds)}, whose columns differ: give {names}."
            )
        if kinds[0] not in others:
            raise UserError(f"There is no usable result of {kinds[0]} in {folder}.")
        return others[kinds[0]]()
    if not board.results:
        raise UserError(
            f"There is no usable result of classification of images in {folder}, and others have no robust scores."
        )
    if format == "robust-csv":
        return robustness_csv(fold(board.results))
    return _images_csv(board.results)


def _images_csv(results: Iterable[Result]) -> str:
    results = in_order(results)
    cells = {
        result.config_hash: _cell_columns(row, column)
        for table in fold(results)
        for row in table.rows
        for column, of_cell in row.cells.items()
        for result in of_cell
    }
    lines = [{**flat(result), **cells[result.config_hash]} for result in results]
    if not any(result.warnings for result in results):
        lines = [{k: v for k, v in line.items() if k != "warnings"} for line in lines]
    return csv_text(lines)


def _cell_columns(row: Row, column: str) -> dict[str, object]:
    """Return what a result's cell in the tables says: the mean over the seeds that the cell holds."""
    score = row.score(column)
    assert score is not None
    low, high = score.interval or (None, None)
    mean = {"cell_n": score.n, "cell_top1_mean": score.mean, "cell_top1_std": score.std}
    interval = {"cell_top1_low95": low, "cell_top1_high95": high}
    return {**mean, **interval, "row": row.label, "row_seeds": seeds_that_vary(row)}


def _markdown(table: Table, tables: Sequence[Table]) -> str:
    heading = f"## {table.dataset}, {table.budget}, recipe {table.recipe}, {table.labels} labels"
    tops = ceilings(table, tables)
    heading = markdown(heading + (f" ({table.distinction})" if table.distinction else ""))
    parts = [heading, _headline(table, tops)]
    if tops:
        parts.append(CEILING)
    if table.lacks_random:
        how = (
            "run `random` with the same dataset and images per class, and the recipe with `labels: hard` and `loss: ce`. Real "
            "images have no learned labels: its table is another one."
            if table.learns_targets
            else "run `random` with the same dataset, images per class and recipe."
        )
        parts.append(
            "**Random selection is missing from this table.** Without it nobody can tell what the methods add: "
            f"{how}"
        )
    if any(row.mean(table.columns) is None for row in table.rows):
        parts.append("Rows that lack a student have no mean and stand at the end.")
    parts += ["Further numbers, means over students and seeds:", _further(table)]
    spread = intervals(table)
    if spread:
        parts.append(f"{spread.title}. {_listing(spread)}")
    notes = [
        f"- {markdown(note.removeprefix('- '))}" for note in provenance_notes(table).splitlines()
    ]
    return "\n\n".join([*parts, "How these numbers were made:", "\n".join(notes)])


def _headline(table: Table, tops: Sequence[Row]) -> str:
    rows = []
    named = [(row.label, row) for row in table.rows]
    for label, row in [*named, *((f"{row.label} (ceiling)", row) for row in tops)]:
        scores = [row.score(column) for column in table.columns]
        cells = [score.percent() if score else "" for score in scores]
        rows.append([label, *cells, _percent(row.mean(table.columns)), seeds_that_vary(row)])
    return _pipes(["method", *table.columns, "mean", "seeds"], rows)


def _listing(listing: Listing) -> str:
    return f"{listing.text}\n\n{_pipes(listing.headers, listing.rows, listing.names)}"


def _further(table: Table) -> str:
    known = known_further(table)
    rows = [
        [row.label, *(column.text(row, table.columns) for column in known)] for row in table.rows
    ]
    return _pipes(["method", *(column.heading for column in known)], rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _pipes(headers: list[str], rows: list[list[str]], names: int = 1) -> str:
    align = ["left"] * names + ["right"] * (len(headers) - names)
    return markdown_table(headers, rows, align)
