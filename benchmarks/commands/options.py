"""The parser of the commands that need no configuration."""

import re
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from benchmarks.commands.names import COMMANDS
from ddoq.errors import UserError, suggest


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
