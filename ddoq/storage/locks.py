"""Locks among processes: what two runs would do twice, one of them does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from ddoq.console import say
from ddoq.storage.disk import writing

_PAUSE = 0.2  # seconds between two attempts


@contextmanager
def locked(path: Path, waiting: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock as long as the block runs. The operating system releases it when its holder ends, however it ends.

    The file stays: whoever removed it would let two processes hold locks of the same name.

    Args:
        path: The file of the lock; its folder is made if need be.
        waiting: Told to the user where another process holds it.
        wait: Wait for it then.

    Raises:
        Timeout: If another process holds it and we do not wait.
        WriteError: If there can be no such file.
    """
    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        free = _try(lock)
    if not free:
        if not wait:
            raise Timeout(str(path))
        say(waiting)
        lock.acquire(poll_interval=_PAUSE)
    try:
        yield
    finally:
        lock.release()


def _try(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
