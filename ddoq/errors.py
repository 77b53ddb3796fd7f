"""The one exception for mistakes that a user can mend."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in input, configuration or files that the user can mend.

    The message names the file or the key that is wrong and says what to do about it. The command line
    prints it alone, without a traceback, and exits with status 2.
    """


def suggest(name: str, valid: Iterable[str]) -> str:
    """Say which valid name is nearest to a wrong one, and list all of them.

    Args:
        name: What the user wrote.
        valid: The names that would have been accepted.

    Returns:
        A sentence to end an error message with.

    Example:
        >>> suggest("lloid", ["lloyd", "clvq"])
        "Did you mean 'lloyd'? Valid: clvq, lloyd."
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Valid: {', '.join(names)}."
