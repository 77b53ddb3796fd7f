"""The parser of the commands that need no configuration."""

import itertools
import re
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser

from benchmarks.commands.names import COMMANDS
from ddoq.errors import UserError, suggest

if TYPE_CHECKING:  # `--help` must not wait for torch
    from ddoq.data.decoding import ImageLimits


class CommandParser(ArgumentParser):
    """Parses the options of one command; a mistake is an error as that of every other command.

    Args:
        name: The command.
        description: What it does; its line in the table of commands where omitted.
        epilog: What its help ends with.
    """

    def __init__(
        self, name: str, description: str | None = None, epilog: str | None = None, **more: Any
    ) -> None:
        super().__init__(
            prog=f"ddoq-bench {name}",
            description=description or COMMANDS[name].help,
            epilog=epilog,
            allow_abbrev=False,
            **more,
        )

    def parse_args(self, args: Any = None, *more: Any, **settings: Any) -> Any:
        """Parse the options; empty ones are refused, since an empty path would be the working directory.

        Raises:
            UserError: For a mistake in them.
        """
        for before, argument in itertools.pairwise(["", *(args or [])]):
            if argument == "" or (argument.startswith("--") and argument.endswith("=")):
                flag = argument[:-1] or (before if before.startswith("--") else "An argument")
                raise UserError(f"{flag} is empty. See `{self.prog} --help`.")
        return super().parse_args(args, *more, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report a mistake in the options.

        Raises:
            UserError: Always; with the way to the help.
        """
        text = re.sub(
            r"Parser key \"(\w+)\":\s*Expected an? <class '(\w+)'>\. Got value: (.*)",
            lambda m: f"argument --{m[1].replace('_', '-')}: invalid {m[2]} value: {m[3]!r}",
            message,
        )
        unknown = re.search(r"unrecognized arguments: (--[\w.-]+)", message)
        options = set(re.findall(r"--[a-z][\w-]*", self.format_usage()))
        hint = f" {suggest(unknown[1], options)}" if unknown else ""
        raise UserError(f"{text}.{hint} See `{self.prog} --help`.") from None


def add_limits(parser: CommandParser) -> None:
    """Add the options that bound the images of a source."""
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="width times height that an image may have; the datasets' own limit where omitted",
    )
    parser.add_argument(
        "--max-aspect-ratio",
        type=float,
        metavar="R",
        help="longer by shorter side that an image may have; the datasets' own limit where omitted",
    )


def limits_of(given: Any) -> "ImageLimits":
    """Return the bounds that were given, the datasets' own in place of those that were not.

    Raises:
        UserError: If one is below 1.
    """
    from ddoq.data.decoding import MAX_ASPECT_RATIO, MAX_PIXELS, ImageLimits

    pixels, ratio = given.max_pixels, given.max_aspect_ratio
    return ImageLimits(
        MAX_PIXELS if pixels is None else pixels, MAX_ASPECT_RATIO if ratio is None else ratio
    )
