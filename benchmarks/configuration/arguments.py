"""The parser of commands that need none of the configuration's machinery."""

import argparse
from typing import NoReturn

from ddoq.errors import UserError


class CommandParser(argparse.ArgumentParser):
    """Parses the options of one command; a mistake is an error as that of every other command."""

    def error(self, message: str) -> NoReturn:
        """Report a mistake in the options.

        Raises:
            UserError: Always; with the way to the help.
        """
        raise UserError(f"{message}. See `{self.prog} --help`.")
