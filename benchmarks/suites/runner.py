"""Run a suite: one process a cell, resumable, with progress and time to go."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NoReturn

from benchmarks.results.files import read_result
from benchmarks.suites.board import finish_suite
from benchmarks.suites.jobs import Job, Plan
from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_json
from ddoq.storage.run_folder import RunFolder

INTERRUPTED = 130  # the exit status that shells give for Ctrl-C
_PATIENCE = 20.0  # seconds that processes have to end after they were told to


@dataclass
class Progress:
    """Counts jobs and guesses the time to go from the mean of those that were run.

    Attributes:
        total: Jobs in all.
        done: Jobs finished or found done.
        ran: Jobs that this process ran.
        started: Clock at the start, in seconds.
    """

    total: int
    done: int = 0
    ran: int = 0
    started: float = 0.0

    def line(self, job: Job, outcome: str, now: float) -> str:
        """Return the line for a job that just ended.

        Example:
            >>> job = Job("ddoq: vit, seed 0", "fit", (), "")
            >>> Progress(total=4, done=2, ran=2).line(job, "done in 9 s", 20.0)
            '[2/4] ddoq: vit, seed 0: done in 9 s; about 20 s to go'
        """
        left = self.total - self.done
        if not self.ran or not left:
            return f"[{self.done}/{self.total}] {job.name}: {outcome}"
        seconds = (now - self.started) / self.ran * left
        guess = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        return f"[{self.done}/{self.total}] {job.name}: {outcome}; about {guess} to go"


class SuiteRunner:
    """Runs jobs as processes and remembers which are done.

    Args:
        output: Root of caches and results; reports and logs go to its folder ``suite``.
        workers: Processes at a time. Each has its share of the CPU threads and, in turn, one of the GPUs.
    """

    def __init__(self, output: Path, workers: int) -> None:
        self.names = RunFolder(output)
        self.folder = self.names.jobs
        self.workers = workers
        self.gpus = _visible_gpus() if workers > 1 else []
        self._turn = count()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def report(self, job: Job) -> Path:
        """Return where a job lists what it made."""
        return self.names.job_report(job.key)

    def log(self, job: Job) -> Path:
        """Return where a job's output goes."""
        return self.names.job_log(job.key)

    def is_done(self, job: Job) -> bool:
        """Say whether all that a job made is still there."""
        if not self.report(job).is_file():
            return False
        try:
            paths = read_json(self.report(job))
        except DamagedError:  # the job is quick where all that it made is there
            return False
        return isinstance(paths, list) and bool(paths) and all(_is_whole(path) for path in paths)

    def environment(self) -> dict[str, str]:
        """Return the environment of the next process."""
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        variables = {"OMP_NUM_THREADS": threads, **os.environ}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpus[next(self._turn) % len(self.gpus)]
        return variables

    def run(self, job: Job) -> int:
        """Run one job to its end and return its exit status."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.report(job).unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks", job.command, *job.defaults, *job.arguments]
        command += ["--report", str(self.report(job)), "--trainer.enable_progress_bar=false"]
        with self.log(job).open("w", encoding="utf-8") as log:
            with self._lock:
                if self._stopped:
                    return INTERRUPTED
                # A process group of its own: it and what it starts can be stopped together, in order.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment(),
                    process_group=0,
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        if status:  # what a failed process reports is what earlier ones have made
            self.report(job).unlink(missing_ok=True)
        return status

    def stop(self, patience: float = _PATIENCE) -> None:
        """End all processes, as Ctrl-C would; those that do not end in time, or at a second Ctrl-C, are killed.

        Args:
            patience: Seconds to wait.
        """
        with self._lock:
            self._stopped = True
            running = list(self._running)
        deadline = time.monotonic() + patience
        try:
            _send(running, signal.SIGINT)
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            pass
        finally:
            _send(running, signal.SIGKILL)  # also what a process has left behind

    def last_line(self, job: Job) -> str:
        """Return why a job failed: the last line of its log that names a failed student, or its last line."""
        lines = self.log(job).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        named = [line for line in lines if line.startswith("failed: ")]
        return (named or lines or ["no output"])[-1]

    def run_all(self, jobs: list[Job], progress: Progress) -> list[Job]:
        """Run those jobs that are not done, a number of them at a time; return those that failed."""
        todo = []
        for job in jobs:
            if self.is_done(job):
                progress.done += 1
                print(progress.line(job, "already done", time.monotonic()), flush=True)
            else:
                todo.append(job)
        failed = []
        pool = ThreadPoolExecutor(self.workers)
        try:
            waiting = {pool.submit(_timed, self.run, job): job for job in todo}
            for future in as_completed(waiting):
                job = waiting[future]
                status, seconds = future.result()
                progress.done += 1
                progress.ran += 1
                outcome = f"done in {seconds:.0f} s"
                if status:
                    failed.append(job)
                    outcome = f"FAILED ({self.last_line(job)})"
                print(progress.line(job, outcome, time.monotonic()), flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            self.stop()
            raise
        finally:
            pool.shutdown()
        return failed


def _is_whole(name: object) -> bool:
    """Say whether what a job reported is there; a damaged result is as good as none, sets are checked when used."""
    path = Path(str(name))
    if path.suffix != ".json":
        return path.exists()
    try:
        read_result(path)
    except DamagedError:
        return False
    except UserError:  # of another format: it is not made again
        return True
    return True


def _send(processes: Iterable[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _timed(run: Callable[[Job], int], job: Job) -> tuple[int, float]:
    started = time.monotonic()
    status = run(job)
    return status, time.monotonic() - started


def _visible_gpus() -> list[str]:
    """List the GPUs that processes may be given, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let a request to end, whoever makes it, act as Ctrl-C: else processes would go on without the suite."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only the main thread set handlers
        return
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def list_jobs(plan: Plan) -> None:
    """Print the jobs of a suite and which of them are done."""
    runner = SuiteRunner(plan.output, 1)
    jobs = [*plan.sets, *plan.cells]
    done = [runner.is_done(job) for job in jobs]
    for job, is_done in zip(jobs, done, strict=True):
        print(f"[{'done' if is_done else 'to do'}] {job.name}")
    print(f"{sum(done)} of {len(jobs)} jobs of {plan.name} are done.")


def run_plan(plan: Plan, workers: int, progress: Progress) -> int:
    """Run the jobs of a suite, then write its tables.

    Args:
        plan: Its jobs.
        workers: Students trained at a time.
        progress: Counts them.

    Returns:
        0, or 1 if a cell failed or was not run.
    """
    # Sets come first and one at a time: a distillation uses the whole machine, and methods share shards.
    failed = SuiteRunner(plan.output, 1).run_all(plan.sets, progress)
    runner = SuiteRunner(plan.output, workers)
    lost = {job.key for job in failed}
    stranded = [job for job in plan.cells if job.needs in lost and not runner.is_done(job)]
    for job in stranded:  # each would fail as its set did
        progress.done += 1
        print(progress.line(job, "not run, its distillation failed", time.monotonic()), flush=True)
    failed += runner.run_all([job for job in plan.cells if job not in stranded], progress)
    complaints = [f"Failed: {job.name}: {runner.last_line(job)}" for job in failed]
    complaints += [f"Not run, its distillation failed: {job.name}" for job in stranded]
    reports = [runner.report(job) for job in plan.cells if runner.is_done(job)]
    complaints += finish_suite(plan, reports, complaints)
    for job in failed:
        print(f"failed: {job.name}; see {runner.log(job)}", file=sys.stderr)
    for job in stranded:
        print(f"not run: {job.name}; its distillation failed", file=sys.stderr)
    return 1 if complaints else 0
