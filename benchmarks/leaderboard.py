"""The leaderboard: tables folded from result files, each followed by how its numbers were made."""

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tabulate import tabulate

from benchmarks.columns import flat
from benchmarks.folding import Row, Score, Table, fold, in_order
from benchmarks.notes import how_made
from benchmarks.results import Failure, Result, read_failures, read_results
from ddoq.errors import UserError, suggest
from ddoq.storage import atomic_path

FORMATS = ("markdown", "csv")
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
    """

    results: list[Result]
    problems: list[str]
    failures: list[Failure]

    @classmethod
    def read(cls, folder: Path) -> "Board":
        """Read a folder with all folders in it."""
        results, problems = read_results(folder)
        failures, unreadable = read_failures(folder, results)
        return cls(results, problems + unreadable, failures)

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
        format: ``markdown`` (tables) or ``csv`` (one line per result, unrounded).

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
    if not board.results:
        raise UserError(f"There is no usable result in {folder}: run `ddoq-bench fit` first.")
    if format == "csv":
        return _csv(board.results)
    parts = [_INTRODUCTION, *(_markdown(table) for table in fold(board.results))]
    complaints = board.complaints()
    if complaints:
        parts.append("## Left out\n\n" + "\n".join(f"- {_escape(text)}" for text in complaints))
    return "\n\n".join(parts) + "\n"


def _csv(results: Iterable[Result]) -> str:
    lines = [flat(result) for result in in_order(results)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _markdown(table: Table) -> str:
    heading = f"## {table.dataset}, {table.ipc} images per class, recipe {table.recipe}, {table.labels} labels"
    parts = [_escape(heading + (f" ({table.apart})" if table.apart else "")), _headline(table)]
    if all(row.method != "random" for row in table.rows):
        parts.append(
            "**Random selection is missing from this table.** Without it nobody can tell what the methods add: "
            "run `random` with the same dataset, images per class and recipe."
        )
    if any(row.mean(table.columns) is None for row in table.rows):
        parts.append("Rows that lack a student have no mean and stand at the end.")
    parts += ["Further numbers, means over students and seeds:", _further(table)]
    return "\n\n".join([*parts, "How these numbers were made:", how_made(table)])


def _headline(table: Table) -> str:
    rows = []
    for row in table.rows:
        scores = [row.score(column) for column in table.columns]
        cells = [score.percent() if score else "" for score in scores]
        rows.append([row.label, *cells, _percent(row.mean(table.columns)), _seeds(row)])
    return _pipes(["method", *table.columns, "mean", "seeds"], rows)


def _seeds(row: Row) -> str:
    """Say which seeds vary, and which do not."""
    student = sorted({result.cell.seed for result in row.results})
    made = {result.cell.distill_seed for result in row.results}
    distillation = sorted(seed for seed in made if seed is not None)
    vary = [
        name
        for name, seeds in (("distillation", distillation), ("student", student))
        if len(seeds) > 1
    ]
    told = " and ".join(vary) + (" vary" if len(vary) > 1 else " varies") if vary else "none varies"
    numbers = ", ".join(map(str, student))
    numbers += "; distillation " + (", ".join(map(str, distillation)) or "unknown")
    return f"{told} (student {numbers})"


def _further(table: Table) -> str:
    def accuracy(name: str) -> Callable[[Row], str]:
        return lambda row: _percent(row.mean(table.columns, lambda r: getattr(r.metrics, name)))

    columns: dict[str, Callable[[Row], str]] = {
        "best top-1 (chosen on the test set)": accuracy("top1_best"),
        "top-5": accuracy("top5_last"),
        "teacher on distilled images": lambda row: _percent(
            _known(row, "teacher_accuracy_distilled")
        ),
        "W2, own weights": lambda row: _number(_known(row, "w2_masses"), ".4g"),
        "W2, uniform weights": lambda row: _number(_known(row, "w2_uniform"), ".4g"),
        "images": lambda row: _number(_known(row, "distilled_images"), "g"),
        "s to distil": lambda row: _number(_known(row, "distilled_seconds"), ".1f"),
        "s to train": lambda row: _number(_known(row, "seconds"), ".1f"),
    }
    rows = [[row.label, *(value(row) for value in columns.values())] for row in table.rows]
    return _pipes(["method", *columns], rows)


def _known(row: Row, column: str) -> float | None:
    """Average a column over the results that have it, one per distilled set where the set decides it."""
    by_set = column not in ("seconds",)
    values = {}
    for index, result in enumerate(in_order(row.results)):
        value = flat(result)[column]
        if value is not None:
            values[result.distilled.get("fingerprint") if by_set else index] = float(value)
    return Score.of(list(values.values())).mean if values else None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _pipes(headers: list[str], rows: list[list[str]]) -> str:
    escaped = [[_escape(cell) for cell in row] for row in rows]
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(
        escaped, list(map(_escape, headers)), "pipe", disable_numparse=True, colalign=align
    )


def cell_table(results: list[Result]) -> str:
    """Write the results of one run for the terminal: a line per student.

    Args:
        results: Results of one distilled set under one recipe.

    Returns:
        A table of students in the order given, with accuracies in %.

    Example:
        >>> cell_table([])
        'No student has finished.'
    """
    if not results:
        return "No student has finished."
    cell = results[0].cell
    students: dict[str, list[Result]] = {}
    for result in results:
        students.setdefault(result.cell.student, []).append(result)
    rows = []
    for label, group in students.items():
        metrics = [
            Score.of([getattr(r.metrics, name) for r in group]).percent()
            for name in ("top1_last", "top1_best", "top5_last")
        ]
        cost = group[0].cost
        seconds = Score.of([float(r.cost["seconds"]) for r in group]).mean
        rows.append([label, f"{cost['params']:,}", cost["steps"], *metrics, f"{seconds:.1f}"])
    headers = ["student", "params", "steps", "top-1 last", "top-1 best", "top-5", "seconds"]
    title = f"{cell.method} on {cell.dataset}, {cell.ipc} images per class, recipe {cell.recipe}, accuracy in %:"
    align = ["left"] + ["right"] * (len(headers) - 1)
    return f"{title}\n{tabulate(rows, headers, 'simple', disable_numparse=True, colalign=align)}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report a mistake as every other command does."""
        raise UserError(f"{message}. See `{self.prog} --help`.")


def _parser() -> _Parser:
    parser = _Parser(
        prog="ddoq-bench leaderboard",
        description="Fold result files into tables.",
        epilog="Exit status: 0 all is well, 1 a file was left out or a cell has failed (the tables are still written, "
        "and stderr says which), 2 a mistake in the arguments or no result.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="searched with all folders in it")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="markdown unless --output ends with .csv; csv has one line per result, unrounded",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, not to stdout")
    return parser


def main(args: list[str]) -> int:
    """Run ``ddoq-bench leaderboard``.

    Args:
        args: What follows the command.

    Returns:
        0 if all is well, 1 if a file was left out or a cell has failed, 2 for a mistake of the user's.
    """
    try:
        given = _parser().parse_args(args)
        inferred = "csv" if given.output and given.output.suffix == ".csv" else "markdown"
        board = Board.read(given.folder)
        complaints = board.complaints()
        for complaint in complaints:
            print(complaint, file=sys.stderr)
        text = render(board, given.folder, given.format or inferred)
        _deliver(text, given.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if complaints else 0


def _deliver(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    try:
        with atomic_path(output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror}.") from None
