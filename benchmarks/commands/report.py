"""The command `ddoq-bench report`."""

import sys
from pathlib import Path

from benchmarks.commands.options import CommandParser
from benchmarks.leaderboard.board import Board
from benchmarks.leaderboard.report import write_report


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Compare every method with chosen ones over all tables of a folder: text, p-values and figures.",
    )
    parser.add_argument("folder", type=Path, help="folder with result files")
    parser.add_argument(
        "--against", nargs="+", required=True, help="methods, or labels of rows, to compare with"
    )
    parser.add_argument("--output", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--title", default="Report", help="its heading")
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench report``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0, or 1 if a result file was left out or a cell has failed.

    Raises:
        UserError: For a mistake in the arguments, or if there is nothing to compare.
    """
    options = _parser(name).parse_args(arguments)
    board = Board.read(options.folder)
    for message in (*(f"note: {note}" for note in board.notes), *board.complaints()):
        print(message, file=sys.stderr)
    write_report(board, options.folder, options.against, options.output, options.title)
    print(f"report: {options.output}")
    return 1 if board.complaints() else 0
