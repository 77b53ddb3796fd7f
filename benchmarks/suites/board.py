"""The end of a suite: its cells as leaderboard files, and as a table for W&B."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.leaderboard.board import Board, render
from benchmarks.leaderboard.report import write_report
from benchmarks.results.files import Result, read_result
from benchmarks.results.graphs import GRAPHS
from benchmarks.results.kinds import kind_of
from benchmarks.results.sealed import Kind, SealedRecord
from benchmarks.results.transfers import TRANSFERS
from benchmarks.suites.jobs import Plan
from benchmarks.tracking.artifacts import log_leaderboard, log_sealed_leaderboard
from ddoq.errors import UserError
from ddoq.storage.files import atomic_path, read_json
from ddoq.storage.run_folder import RunFolder

Record = TypeVar("Record", bound=Result | SealedRecord)
SealedResult = TypeVar("SealedResult", bound=SealedRecord)


def read_cells(reports: Iterable[Path]) -> tuple[list[Result], list[str]]:
    """Read the results of classification of images that jobs have reported.

    Args:
        reports: JSON lists of result files; those of other kinds among them are left to :func:`read_cells_of`.

    Returns:
        The results, each once, and a message for every file that cannot be used.
    """
    return _read_each([path for path in _listed(reports) if kind_of(path) is None], read_result)


def read_cells_of(
    kind: Kind[SealedResult], reports: Iterable[Path]
) -> tuple[list[SealedResult], list[str]]:
    """Read the results of another kind that jobs have reported; see :func:`read_cells`."""
    return _read_each([path for path in _listed(reports) if kind_of(path) is kind], kind.read)


def _read_each(
    paths: Iterable[Path], read: Callable[[Path], Record]
) -> tuple[list[Record], list[str]]:
    """Read files; of results that are the same the last one counts."""
    records: dict[str, Record] = {}
    problems = []
    for path in paths:
        try:
            record = read(path)
            records[record.config_hash] = record
        except UserError as error:
            problems.append(str(error))
    return list(records.values()), problems


def _listed(reports: Iterable[Path]) -> list[Path]:
    """List the files that jobs have reported, each once."""
    return list(dict.fromkeys(Path(name) for report in reports for name in read_json(report)))


def write_boards(board: Board, output: Path, name: str) -> list[Path]:
    """Write a suite's leaderboard as Markdown, HTML and a CSV for each kind of results, each atomically.

    Args:
        board: The suite's own results and what is missing from them.
        output: Root of caches and results.
        name: What the suite is called; its files get a folder of that name.

    Returns:
        The files; no CSV of a kind that has no result.

    Raises:
        UserError: If there is no result, or a file cannot be written.
    """
    files = RunFolder(output).board_files(name)
    some = {"csv": board.results, "transfer-csv": board.transfers, "graphs-csv": board.graphs}
    files = {format: path for format, path in files.items() if some.get(format, True)}
    for format, path in files.items():
        text = render(board, output, format)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return list(files.values())


def finish_suite(plan: Plan, reports: Iterable[Path], complaints: Sequence[str]) -> list[str]:
    """Print a suite's leaderboard, write it to files, and log it to W&B where all configurations want that.

    Args:
        plan: What was run.
        reports: Where the finished cells list their results.
        complaints: What failed or was not run; stands below the tables.

    Returns:
        Further complaints, about result files that cannot be used.
    """
    reports = list(reports)
    results, problems = read_cells(reports)
    transfers, damaged = read_cells_of(TRANSFERS, reports)
    graphs, spoiled = read_cells_of(GRAPHS, reports)
    problems += damaged + spoiled
    for problem in problems:
        print(problem, file=sys.stderr)
    if not results and not transfers and not graphs:
        print("No cell of this suite has a result.")
        return problems
    board = Board(results, [*problems, *complaints], [], transfers=transfers, graphs=graphs)
    print(render(board, plan.output, "markdown"))
    for path in write_boards(board, plan.output, plan.name):
        print(f"leaderboard written to {path}")
    if plan.against:
        problems += _report(board, plan)
    # One configuration that keeps away from W&B keeps its row away, and a table without it would be another one.
    if all(options.mode != "disabled" for options in plan.wandb):
        options, place = plan.wandb[0], (plan.name, plan.output)
        log_leaderboard(options, *place, results)
        log_sealed_leaderboard(options, *place, TRANSFERS, transfers)
        log_sealed_leaderboard(options, *place, GRAPHS, graphs)
    return problems


def _report(board: Board, plan: Plan) -> list[str]:
    """Write the suite's report; return what keeps it from being written."""
    path = RunFolder(plan.output).board_report(plan.name)
    try:
        write_report(board, plan.output, plan.against, path, plan.name)
    except UserError as error:
        print(f"no report: {error}", file=sys.stderr)
        return [f"No report: {error}"]
    print(f"report written to {path}")
    return []
