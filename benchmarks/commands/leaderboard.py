"""The command `ddoq-bench leaderboard`."""

import sys
from pathlib import Path

from benchmarks.commands.options import CommandParser
from benchmarks.leaderboard.board import FORMATS, Board, render
from ddoq.storage.files import atomic_path

_ENDINGS = {".csv": "csv", ".tex": "latex", ".html": "html", ".htm": "html"}


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        epilog="Exit status: 0 all is well, 1 a file was left out or a cell has failed (the tables are still written, "
        "and stderr says which), 2 a mistake in the arguments or no result.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="searched with all folders in it")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="by the ending of --output (.csv, .tex, .html), else markdown; csv has one line per result, unrounded; "
        "robust-csv has label-robust and augmentation-robust scores; transfer-csv and graphs-csv are as csv, of these results; "
        "html is one page with plots that needs no network",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, not to stdout")
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench leaderboard``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0 if all is well, 1 if a file was left out or a cell has failed.

    Raises:
        UserError: For a mistake in the arguments, or if there is no result.
    """
    options = _parser(name).parse_args(arguments)
    ending = options.output.suffix.lower() if options.output else ""
    board = Board.read(options.folder)
    complaints = board.complaints()
    for note in board.notes:
        print(f"note: {note}", file=sys.stderr)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    text = render(board, options.folder, options.format or _ENDINGS.get(ending, "markdown"))
    _deliver(text, options.output)
    return 1 if complaints else 0


def _deliver(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    with atomic_path(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
