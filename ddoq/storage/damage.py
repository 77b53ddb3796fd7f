"""Files that are not what was written: what is the suite's own is set aside, so that it is made again."""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

from ddoq.errors import UserError
from ddoq.storage.disk import writing

_MEND = "Restore it from a copy."

T = TypeVar("T")


class DamagedError(UserError):
    """A file or a folder is not what was written.

    Args:
        path: It.
        what: What is wrong with it, in words that follow its name.
        mend: What to do about it, where it cannot be made again.

    Example:
        >>> print(DamagedError(Path("a.json"), "is empty"))
        a.json is empty. Restore it from a copy.
    """

    def __init__(self, path: Path, what: str, mend: str = _MEND) -> None:
        super().__init__(path, what, mend)
        self.path = path
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        """Name it, and say what is wrong and what to do."""
        return f"{self.path} {self.what}. {self.mend}".rstrip()

    def mended_by(self, mend: str) -> "DamagedError":
        """Return the same error with other advice."""
        return type(self)(self.path, self.what, mend)


def set_aside(path: Path, error: UserError, then: str = "it is made again") -> Path:
    """Rename a damaged file or folder of the suite's own, and say so on stderr; nothing is deleted.

    Args:
        path: What shall be made again.
        error: What is wrong with it, or with a file in it.
        then: What happens now.

    Returns:
        Its new name, e.g. ``class-0001.safetensors.damaged-1``.

    Raises:
        WriteError: If it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    with writing(path):
        path.rename(aside)
    reason = f"{error.path} {error.what}" if isinstance(error, DamagedError) else str(error)
    print(f"damaged: {reason.rstrip('.')}: set aside as {aside}; {then}", file=sys.stderr)
    return aside


def read_or_set_aside(path: Path, read: Callable[[Path], T]) -> T | None:
    """Read what the suite can make again; set it aside where it is damaged.

    Of several processes that find the damage one sets the file aside, and none what another has made anew.

    Args:
        path: A file or a folder.
        read: Reads and checks it.

    Returns:
        What ``read`` gives; None where the file is not there, or is no longer.

    Raises:
        UserError: For what else ``read`` refuses.
        WriteError: If it cannot be set aside.
    """
    if not path.exists():
        return None
    try:
        return read(path)
    except DamagedError:
        pass
    from filelock import FileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with writing(path):
        lock.acquire()
    try:
        return read(path) if path.exists() else None
    except DamagedError as error:
        set_aside(path, error)
        return None
    finally:
        lock.release()
