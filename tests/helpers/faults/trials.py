"""What came of a fault, and whether that is allowed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from faults.warm import Finished

_INPUT, _FAILED = 2, 1  # exit statuses: a mistake in the input or a file, failed cells
_SHOWN = 1500  # characters of output that a failed trial keeps

SAME = "same result"
REFUSED = "clear error"
FAILED = "failed cell, named"
LEGAL = "accepted, documented as legal"
TRACEBACK = "traceback"
HANG = "no end in time"
CRASH = "crash"
WRONG = "wrong number"
VAGUE = "error that names nothing"
SILENT = "accepted in silence"
BLOCKED = "does not go on"
ALLOWED = (SAME, REFUSED, FAILED, LEGAL)


@dataclass(frozen=True)
class Trial:
    """One fault and its outcome.

    Attributes:
        fault: Its kind, a row of the report.
        target: What it was done to.
        outcome: One of this module's words.
        detail: What was printed, where the outcome is not allowed.
    """

    fault: str
    target: str
    outcome: str
    detail: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the suite may react so."""
        return self.outcome in ALLOWED


def error_lines(finished: Finished) -> list[str]:
    """Return the lines of the error stream that begin with ``error:``."""
    return [line for line in finished.errors.splitlines() if line.startswith("error:")]


def reaction(finished: Finished, names: Iterable[str] = ()) -> str | None:
    """Judge how a command ended, apart from its numbers.

    Args:
        finished: The command.
        names: Words of which its error must hold one, e.g. the file that was damaged; any error will do where there are none.

    Returns:
        An outcome; None where it ended well and its numbers are to be compared.
    """
    if finished.status is None:
        return HANG
    if "Traceback (most recent call last)" in finished.errors + finished.output:
        return TRACEBACK
    if finished.status == 0:
        return None
    if finished.status not in (_INPUT, _FAILED):
        return CRASH
    lines = error_lines(finished)
    words = list(names)
    text = finished.errors + finished.output
    if not lines and finished.status == _INPUT:
        return VAGUE
    if words and not any(word in text for word in words):
        return VAGUE
    return REFUSED if finished.status == _INPUT else FAILED


def shown(finished: Finished) -> str:
    """Return the end of what a command printed, for a trial that went wrong."""
    return f"status {finished.status}\n{finished.output[-_SHOWN:]}\n{finished.errors[-_SHOWN:]}"


def pattern(path: Path, root: Path) -> str:
    """Return a file's path with what differs from run to run taken out, so that kinds of files can be counted.

    Example:
        >>> pattern(Path("runs/shards/0123456789abcdef/class-0001.safetensors"), Path("runs"))
        'shards/*/class-*.safetensors'
    """
    text = path.relative_to(root).as_posix()
    text = re.sub(r"\b[0-9a-f]{16}\b", "*", text)
    return re.sub(r"(?<=[-_/])[\w-]*-\*(?=/)|(?<=class-)\d+|(?<=block-)\d+", "*", text)
