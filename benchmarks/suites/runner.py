"""Run a suite: one process a cell, resumable, with progress and time to go."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results.files import read_result
from benchmarks.results.kinds import kind_of
from benchmarks.run.interruption import current
from benchmarks.run.parent import PARENT
from benchmarks.suites.board import finish_suite
from benchmarks.suites.jobs import Job, Plan
from benchmarks.suites.queue import GpuPool, JobQueue
from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_json
from ddoq.storage.run_folder import RunFolder

INTERRUPTED = 130  # the status of a job that was not begun any more; shells give it for Ctrl-C
STOPPING = 20.0  # seconds that processes have to end after they were told to


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
        workers: Processes at a time. Each has its share of the CPU threads and the GPU that is free next.
    """

    def __init__(self, output: Path, workers: int) -> None:
        self.names = RunFolder(output)
        self.folder = self.names.jobs
        self.workers = workers
        self.gpus = GpuPool(_visible_gpus() if workers > 1 else [])
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

    def environment(self, gpu: str | None) -> dict[str, str]:
        """Return the environment of a process.

        Args:
            gpu: The one it works on; None leaves all that there are.
        """
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        variables = {"OMP_NUM_THREADS": threads, **os.environ, PARENT: str(os.getpid())}
        if gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = gpu
        return variables

    def command(self, job: Job) -> list[str]:
        """Return the command line of a job."""
        command = [sys.executable, "-m", "benchmarks", job.command, *job.defaults, *job.arguments]
        return [
            *command,
            "--report",
            str(self.report(job)),
            "--trainer.enable_progress_bar=false",
        ]

    def run(self, job: Job) -> int:
        """Run one job to its end and return its exit status."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.report(job).unlink(missing_ok=True)
        self.log(job).unlink(missing_ok=True)  # what an orphan still writes to is another file
        with self.gpus.lend() as gpu, self.log(job).open("w", encoding="utf-8") as log:
            with self._lock:
                if self._stopped:
                    return INTERRUPTED
                # A process group of its own: it and what it starts can be stopped together, in order.
                process = subprocess.Popen(
                    self.command(job),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.environment(gpu),
                    process_group=0,
                )
                self._running.add(process)
            status = process.wait()
            with self._lock:
                self._running.discard(process)
        if status:  # what a failed process reports is what earlier ones have made
            self.report(job).unlink(missing_ok=True)
        return status

    def end(self, kill: bool) -> None:
        """End all processes and start none any more.

        Args:
            kill: End them at once; else each ends in order.
        """
        self._stopped = (
            True  # no lock: this is also called while the thread that holds it cannot go on
        )
        # SIGTERM, since a suite in the background of a script hands a deaf ear for SIGINT on to its processes.
        _send(list(self._running), signal.SIGKILL if kill else signal.SIGTERM)

    def stop(self, patience: float = STOPPING) -> None:
        """End all processes in order; those that do not end in time are killed.

        Args:
            patience: Seconds to wait.
        """
        with self._lock:
            self._stopped = True
            running = list(self._running)
        deadline = time.monotonic() + patience
        try:
            self.end(kill=False)
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
        """Run those jobs that are not done, a number of them at a time; return those that failed.

        What another suite on this output runs is waited for, and its result is taken.
        """
        todo = []
        for job in jobs:
            if self.is_done(job):
                self._tell(job, "already done", progress)
            else:
                todo.append(job)
        if not todo:
            return []
        self.folder.mkdir(parents=True, exist_ok=True)

        def waiting(job: Job) -> None:
            print(f"waiting for {job.name}, which another suite runs", flush=True)

        queue = JobQueue(self.names, todo, waiting)
        failed: list[Job] = []
        with current().child(self.end), ThreadPoolExecutor(self.workers) as pool:
            workers = min(self.workers, len(todo))
            futures = [pool.submit(self._work, queue, progress, failed) for _ in range(workers)]
            try:
                for future in as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                queue.close()
                self.stop()
                raise
            finally:
                queue.close()
        return failed

    def _work(self, queue: JobQueue, progress: Progress, failed: list[Job]) -> None:
        """Run jobs until none is left."""
        while True:
            with queue.take() as job:
                if job is None:
                    return
                if self.is_done(job):
                    self._tell(job, "done by another suite", progress)
                    continue
                started = time.monotonic()
                status = self.run(job)
                if self._stopped:
                    return
                outcome = f"done in {time.monotonic() - started:.0f} s"
                if status:
                    failed.append(job)
                    outcome = f"FAILED ({self.last_line(job)})"
                self._tell(job, outcome, progress, ran=1)

    def _tell(self, job: Job, outcome: str, progress: Progress, ran: int = 0) -> None:
        with self._lock:
            progress.done += 1
            progress.ran += ran
            print(progress.line(job, outcome, time.monotonic()), flush=True)


def _is_whole(name: object) -> bool:
    """Say whether what a job reported is there; a damaged result is as good as none, sets are checked when used."""
    path = Path(str(name))
    if path.suffix != ".json":
        return path.exists()
    try:
        kind = kind_of(path)
        if kind is None:
            read_result(path)
        else:
            kind.read(path)
    except DamagedError:
        return False
    except UserError:  # of another format: it is not made again
        return True
    return True


def _send(processes: Iterable[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _visible_gpus() -> list[str]:
    """List the GPUs that processes may be given, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


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
