"""The command `ddoq-bench compare`."""

from pathlib import Path

from benchmarks.commands.options import CommandParser
from benchmarks.statistics.comparison import comparison


def _parser(name: str) -> CommandParser:
    parser = CommandParser(name, "Compare two methods on the same seeds.")
    parser.add_argument("folder", type=Path, help="folder with result files")
    parser.add_argument("first", help="a method, or the label of its row in the leaderboard")
    parser.add_argument("second", help="the other")
    return parser


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench compare``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0.

    Raises:
        UserError: For a mistake in the arguments, or if no table has both methods.
    """
    options = _parser(name).parse_args(arguments)
    print(comparison(options.folder, options.first, options.second))
    return 0
