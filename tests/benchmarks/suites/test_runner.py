import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.suites.jobs import Job
from benchmarks.suites.runner import INTERRUPTED, Progress, SuiteRunner, interruptible

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def jobs(n: int) -> list[Job]:
    return [Job(f"job {index}", "fit", (str(index),), "") for index in range(n)]


class Pretending(SuiteRunner):
    """Makes a file instead of starting a process; job 1 fails while it is told to."""

    failing = True

    def run(self, job: Job) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log(job).write_text("some line\nerror: out of luck\n")
        if job.name == "job 1" and self.failing:
            return 2
        made = self.folder / f"{job.key}.made"
        made.write_text("")
        self.report(job).write_text(json.dumps([str(made)]))
        return 0


@pytest.mark.parametrize("workers", [1, 3])
def test_failures_are_told_and_only_they_are_run_again(workers, tmp_path, capsys):
    runner = Pretending(tmp_path, workers)
    failed = runner.run_all(jobs(4), Progress(4))
    assert [job.name for job in failed] == ["job 1"]
    assert "job 1: FAILED (error: out of luck)" in capsys.readouterr().out
    runner.failing = False
    assert runner.run_all(jobs(4), Progress(4)) == []
    printed = capsys.readouterr().out
    assert printed.count("already done") == 3
    assert "[4/4] job 1: done" in printed


def test_a_job_whose_product_is_gone_is_run_again(tmp_path):
    runner = Pretending(tmp_path, 1)
    (job,) = jobs(1)
    runner.run_all([job], Progress(1))
    assert runner.is_done(job)
    next(runner.folder.glob("*.made")).unlink()
    assert not runner.is_done(job)


def test_processes_share_threads_and_take_turns_on_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    runner = SuiteRunner(tmp_path, 4)
    given = [runner.environment() for _ in range(3)]
    assert [item["CUDA_VISIBLE_DEVICES"] for item in given] == ["3", "5", "3"]
    assert {item["OMP_NUM_THREADS"] for item in given} == {"2"}


def test_time_to_go_counts_only_what_was_run():
    progress = Progress(total=10, done=6, ran=2, started=100.0)
    assert progress.line(jobs(1)[0], "done", 160.0).endswith("about 2 min to go")
    assert "to go" not in Progress(total=10, done=6).line(jobs(1)[0], "already done", 0.0)


def write_suite(folder, **changes):
    config = {
        "extends": [str(TINY)],
        "data": {"class_path": "Digits", "init_args": {"limit_per_class": 12}},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
        "recipe": {"name": "unified", "overrides": {"epochs": 1}},
        **changes,
    }
    (folder / "random.yaml").write_text(yaml.safe_dump(config))
    suite = folder / "suite.yaml"
    content = {"name": "small", "configs": ["random.yaml"], "output": str(folder / "runs")}
    suite.write_text(yaml.safe_dump(content))
    return suite


def test_a_real_suite_ends_in_tables_and_resumes(tmp_path, capsys):
    pytest.importorskip("wandb")
    suite = write_suite(tmp_path, wandb={"mode": "offline"})
    assert main(["suite", str(suite), "--dry-run"]) == 0
    assert "[to do] random: convnet, seed 0\n0 of 2 jobs of small" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert main(["suite", str(suite)]) == 0
    first = capsys.readouterr().out
    assert "[2/2] random: convnet, seed 0: done" in first
    assert "# Leaderboard" in first
    folder = tmp_path / "runs" / "leaderboards" / "small"
    assert f"written to {folder / 'leaderboard.html'}" in first
    (row,) = csv.DictReader((folder / "leaderboard.csv").open())
    (path,) = (tmp_path / "runs").rglob("files/media/table/*.table.json")
    table = json.loads(path.read_text())
    (values,) = table["data"]
    logged = dict(zip(table["columns"], values, strict=True))
    written = {
        key: row[key] for key in logged
    }  # the CSV also has what is derived from several rows
    assert written == {key: "" if value is None else str(value) for key, value in logged.items()}
    runs = {path.parents[2].parent.name for path in (tmp_path / "runs").rglob("*.wandb")}
    assert runs == {"distill", "leaderboard", "students"}
    assert main(["suite", str(suite)]) == 0
    assert capsys.readouterr().out.count("already done") == 2
    assert len(list((tmp_path / "runs").rglob("*.wandb"))) == 3
    assert main(["suite", str(suite), "--dry-run"]) == 0
    assert "[done] random: convnet, seed 0\n2 of 2 jobs" in capsys.readouterr().out


def test_a_failed_distillation_keeps_its_cells_from_running(tmp_path, capsys):
    suite = write_suite(tmp_path, model={"class_path": "Nope"})
    assert main(["suite", str(suite)]) == 1
    captured = capsys.readouterr()
    assert "Unknown class 'Nope'" in captured.out
    assert "[2/2] random: convnet, seed 0: not run, its distillation failed" in captured.out
    assert captured.err.count("failed: random: distil") == 1
    assert "not run: random: convnet, seed 0" in captured.err
    assert len(list((tmp_path / "runs" / "suite").glob("*.log"))) == 1
    assert not (tmp_path / "runs" / "leaderboards").exists()


def test_ctrl_c_stops_what_runs_starts_nothing_more_and_can_be_repeated(tmp_path):
    (job, never) = jobs(2)
    runner = SuiteRunner(tmp_path, 1)
    children = []

    def interrupt():
        while not runner._running:
            time.sleep(0.01)
        children.extend(runner._running)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    progress = Progress(2)
    with pytest.raises(KeyboardInterrupt), interruptible():
        runner.run_all([job, never], progress)
    thread.join()
    assert children[0].poll() is not None
    assert not runner.log(never).exists() or runner.log(never).stat().st_size == 0
    assert progress.done == 0
    assert not runner.is_done(job)
    assert runner.run(never) == INTERRUPTED


def test_an_interrupted_suite_says_how_to_go_on(tmp_path):
    suite = write_suite(tmp_path)
    command = [sys.executable, "-m", "benchmarks", "suite", str(suite)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list((tmp_path / "runs").rglob("*.log")):
            assert time.monotonic() < deadline, "no process was started"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == INTERRUPTED
    assert "0 of 2 jobs have ended" in told
    assert f"ddoq-bench suite {suite}" in told


def test_a_failure_is_told_by_the_line_that_names_the_student(tmp_path):
    runner = SuiteRunner(tmp_path, 1)
    (job,) = jobs(1)
    runner.folder.mkdir()
    runner.log(job).write_text("failed: vit, seed 0: no memory (details)\nerror: 1 of 1 failed\n")
    assert runner.last_line(job).startswith("failed: vit, seed 0: no memory")
