import json
from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.suite import Progress, SuiteRunner
from benchmarks.suite_plan import Job

TINY = Path(__file__).parent.parent / "configs" / "tiny.yaml"


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


def test_a_real_suite_ends_in_tables_and_resumes(tmp_path, capsys):
    config = {
        "extends": [str(TINY)],
        "data": {"class_path": "Digits", "init_args": {"limit_per_class": 12}},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
        "recipe": {"name": "unified", "overrides": {"epochs": 1}},
    }
    (tmp_path / "random.yaml").write_text(yaml.safe_dump(config))
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"configs": ["random.yaml"], "output": str(tmp_path / "runs")}))
    assert main(["suite", str(suite)]) == 0
    first = capsys.readouterr().out
    assert "[2/2] random: convnet, seed 0: done" in first
    assert "# Leaderboard" in first
    assert main(["suite", str(suite)]) == 0
    assert capsys.readouterr().out.count("already done") == 2


def test_a_failing_cell_gives_status_one(tmp_path, capsys):
    config = {
        "extends": [str(TINY)],
        "data": {"class_path": "Digits"},
        "model": {"class_path": "Nope"},
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"configs": ["bad.yaml"], "output": str(tmp_path / "runs")}))
    assert main(["suite", str(suite)]) == 1
    captured = capsys.readouterr()
    assert "Unknown class 'Nope'" in captured.out
    assert captured.err.count("failed: bad") == 2


def test_no_workers_are_refused(tmp_path, capsys):
    assert main(["suite", "x.yaml", "--jobs", "0"]) == 2
    assert "--jobs must be at least 1" in capsys.readouterr().err
