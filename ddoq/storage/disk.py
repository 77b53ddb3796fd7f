"""What a disk refuses, said in one line: which path, why, how much is free, and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ddoq.errors import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class WriteError(UserError):
    """Something cannot be written, or made, where it shall lie.

    Attributes:
        read_only: Whether that is for want of the right to, and not of space.
    """

    read_only: bool = False


def free_bytes(path: Path) -> int | None:
    """Return the free space of the disk that a path is on, or will be; None where nobody knows."""
    try:
        present = next(parent for parent in (path, *path.parents) if parent.exists())
        return shutil.disk_usage(present).free
    except (OSError, StopIteration):
        return None


@contextmanager
def writing(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn whatever keeps a block from writing into an error that says what to do.

    Args:
        path: What is written.
        needed: Its bytes, where they are known.

    Raises:
        WriteError: For every ``OSError`` in the block, and for those that safetensors wraps.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or _number(error) is not None:
            raise _write_error(path, error, needed) from error
        raise


def disk_error(error: BaseException, path: Path) -> WriteError | None:
    """Say whether a full or read-only disk is behind an error.

    Unlike :func:`writing` this is for blocks that do other things as well: what else may be wrong with a file is left
    alone.

    Args:
        error: Any; those that led to it are looked at, too.
        path: What is named where the error names no file.

    Returns:
        The error to raise in its place, or None.

    Example:
        >>> full = OSError(errno.ENOSPC, "No space left on device", "runs/a")
        >>> "runs/a cannot be written (No space left on device" in str(disk_error(full, Path("runs")))
        True
        >>> disk_error(FileNotFoundError(errno.ENOENT, "No such file", "a"), Path("runs")) is None
        True
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, WriteError):
            return cause
        number, named = _number(cause), getattr(cause, "filename", None)
        where = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else path
        ours = path == where or path in where.parents
        if number in (*_FULL, errno.EROFS) or (number in _READ_ONLY and named and ours):
            return _write_error(where, cause)
        cause = cause.__cause__ or cause.__context__
    return None


def check_output(output: Path) -> None:
    """Refuse an output folder that is none, or that cannot be made; one that is there may be read-only.

    Args:
        output: The folder.

    Raises:
        UserError: Naming what is in the way.
    """
    present = next((path for path in (output, *output.parents) if path.exists()), None)
    if present is not None and not present.is_dir():
        raise UserError(f"--output {output}: {present} is a file. Give a folder.")
    if present != output and present is not None and not os.access(present, os.W_OK | os.X_OK):
        raise UserError(
            f"--output {output} cannot be made: {present} cannot be written to. Give another folder."
        )


def _number(error: BaseException) -> int | None:
    """Return the system's number of an error; safetensors gives it in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    wrapped = re.search(r"\(os error (\d+)\)", str(error))
    return int(wrapped.group(1)) if wrapped else None


def _write_error(path: Path, error: BaseException, needed: int | None = None) -> WriteError:
    number = _number(error)
    reason = os.strerror(number) if number is not None else str(error) or type(error).__name__
    if number in _FULL:
        free = free_bytes(path)
        if needed is not None:
            reason += f"; it takes {needed / 1e6:,.1f} MB"
        if free is not None:
            reason += f"; its disk has {free / 1e6:,.1f} MB free"
        mend = "Free some space and run again, or give another --output."
    else:
        mend = "Give another --output, or the right to write there."
    said = WriteError(f"{path} cannot be written ({reason}). {mend}")
    said.read_only = number in _READ_ONLY
    return said
