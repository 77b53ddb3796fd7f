"""Run a suite: one process a cell, resumable, with progress and time to go."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.leaderboard import leaderboard
from benchmarks.suite_plan import Job, plan_suite
from ddoq.errors import UserError
from ddoq.storage import read_json


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
        self.folder = output / "suite"
        self.workers = workers
        self.gpus = _visible_gpus() if workers > 1 else []
        self._turn = count()

    def report(self, job: Job) -> Path:
        """Return where a job lists what it made."""
        return self.folder / f"{job.key}.json"

    def log(self, job: Job) -> Path:
        """Return where a job's output goes."""
        return self.folder / f"{job.key}.log"

    def is_done(self, job: Job) -> bool:
        """Say whether all that a job made is still there."""
        if not self.report(job).is_file():
            return False
        made: list[str] = read_json(self.report(job))
        return bool(made) and all(Path(path).exists() for path in made)

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
        command = [sys.executable, "-m", "benchmarks", job.command, *job.arguments]
        command += ["--report", str(self.report(job)), "--trainer.enable_progress_bar=false"]
        with self.log(job).open("w", encoding="utf-8") as log:
            return subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, check=False, env=self.environment()
            ).returncode

    def last_line(self, job: Job) -> str:
        """Return the last line of a job's log: its error, where it failed."""
        lines = self.log(job).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

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
        with ThreadPoolExecutor(self.workers) as pool:
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
        return failed


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


def main(args: list[str]) -> int:
    """Run ``ddoq-bench suite``.

    Args:
        args: Options, without the command's name.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        UserError: For a mistake in the suite file or the options.
    """
    parser = argparse.ArgumentParser(
        prog="ddoq-bench suite",
        description="Run a grid of cells, one process each. What is done is not done again. Further options, "
        "e.g. --recipe.overrides, are passed on to every process.",
    )
    parser.add_argument("suite", type=Path, help="the YAML file of the suite")
    parser.add_argument(
        "--output", type=Path, help="root of caches and results, instead of the file's"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="students trained at a time (default 1)"
    )
    options, extra = parser.parse_known_args(args)
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {options.jobs}.")
    plan = plan_suite(options.suite, options.output, tuple(extra))
    progress = Progress(len(plan.sets) + len(plan.cells), started=time.monotonic())
    # Sets come first and one at a time: a distillation uses the whole machine, and methods share shards.
    failed = SuiteRunner(plan.output, 1).run_all(plan.sets, progress)
    runner = SuiteRunner(plan.output, options.jobs)
    failed += runner.run_all(plan.cells, progress)
    results = plan.output / "results"
    if results.is_dir():
        print(leaderboard(results, "markdown"))
    for job in failed:
        print(f"failed: {job.name}; see {runner.log(job)}", file=sys.stderr)
    return 1 if failed else 0
