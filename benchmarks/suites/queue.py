"""Which job comes next, and on which GPU: the workers of all suites on one output share both."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from filelock import FileLock, Timeout

from benchmarks.suites.jobs import Job
from ddoq.storage.run_folder import RunFolder

_PAUSE = 0.5  # seconds between two looks at jobs that other suites run


class GpuPool:
    """Lends GPUs: a job gets the one that the fewest jobs are on.

    Args:
        names: As ``CUDA_VISIBLE_DEVICES`` has them; without any a job gets None.

    Example:
        >>> pool = GpuPool(["0", "1"])
        >>> with pool.lend() as long:
        ...     with pool.lend() as short:
        ...         pass
        ...     with pool.lend() as third:
        ...         print(long, short, third)
        0 1 1
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._jobs = dict.fromkeys(names, 0)
        self._lock = threading.Lock()

    @contextmanager
    def lend(self) -> Iterator[str | None]:
        """Lend one for the length of a job."""
        if not self._jobs:
            yield None
            return
        with self._lock:
            name = min(self._jobs, key=lambda key: self._jobs[key])
            self._jobs[name] += 1
        try:
            yield name
        finally:
            with self._lock:
                self._jobs[name] -= 1


class JobQueue:
    """Jobs that wait for a worker. One that another suite on this output runs is left to it.

    Each job has a lock, which the operating system releases when the suite that holds it ends, however it ends.

    Args:
        names: The output.
        jobs: In their order.
        waiting: Called with a job that is waited for since nothing else is left, once.
    """

    def __init__(
        self, names: RunFolder, jobs: Sequence[Job], waiting: Callable[[Job], None]
    ) -> None:
        self._names = names
        self._jobs = list(jobs)
        self._waiting = waiting
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Hand out nothing more."""
        self._closed.set()

    @contextmanager
    def take(self) -> Iterator[Job | None]:
        """Take the next job whose lock is free, and hold it; None where nothing is left."""
        while (held := self._next()) is None and self._left():
            self._closed.wait(_PAUSE)
        if held is None:
            yield None
            return
        job, lock = held
        try:
            yield job
        finally:
            lock.release()

    def _left(self) -> bool:
        with self._lock:
            return bool(self._jobs) and not self._closed.is_set()

    def _next(self) -> tuple[Job, FileLock] | None:
        with self._lock:
            if self._closed.is_set():
                return None
            for job in self._jobs:
                lock = FileLock(self._names.job_lock(job.key))
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                self._jobs.remove(job)
                return job, lock
            for job in self._jobs[:1]:
                if job.key not in self._told:
                    self._told.add(job.key)
                    self._waiting(job)
        return None
