"""A process that another one started ends when that one is gone: the job of a suite, the rank of a run."""

import contextlib
import os
import threading

# Names the process that started this one, where it must not be outlived.
PARENT = "DDOQ_BENCH_PARENT"

_released = threading.Event()


def watch_parent(interval: float = 1.0) -> None:
    """End this process when the one that started it as a job of a suite or as a rank is gone.

    A rank that waits for another cannot know that it waits for nobody: with NCCL it would wait until the timeout. A job
    that went on after its suite was killed would do what the next suite does again.

    Where the operating system gives orphans no new parent (Windows), nothing is noticed.

    Args:
        interval: Seconds between two looks.
    """
    named = os.environ.pop(PARENT, "")  # no process that this one starts is meant
    if os.name == "nt" or not (named or "LOCAL_RANK" in os.environ):
        return
    parent = os.getppid()
    if named.isdigit() and parent != int(named) and not _lives(int(named)):
        _end(named)  # it was gone before this process could look

    def watch() -> None:
        while not _released.wait(interval):
            if os.getppid() != parent:
                _end(named)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


def release_parent() -> None:
    """Let this process end when it likes: all ranks are done."""
    _released.set()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(named: str) -> None:
    what = "the suite that started this job" if named else "the process that launched this rank"
    with contextlib.suppress(OSError):
        os.write(2, f"error: {what} is gone.\n".encode())
    os._exit(1)  # the main thread may hang in a collective
