import csv
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import warm_start
import yaml
from killing import Fork

from benchmarks.cli import main
from benchmarks.results.files import write_result
from benchmarks.run.interruption import run_interruptible
from benchmarks.suites import runner as suite_runner
from benchmarks.suites.jobs import Job
from benchmarks.suites.runner import INTERRUPTED, Progress, SuiteRunner

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


def test_processes_share_threads(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    given = SuiteRunner(tmp_path, 4).environment("5")
    assert given["CUDA_VISIBLE_DEVICES"] == "5"
    assert given["OMP_NUM_THREADS"] == "2"
    assert given["DDOQ_BENCH_PARENT"] == str(os.getpid())


class Scripted(SuiteRunner):
    """Runs Python code, the argument of a job, instead of a command; ``here`` is the folder of the suite."""

    def command(self, job: Job) -> list[str]:
        head = (
            "import os, pathlib, time\n"
            "from benchmarks.run.parent import watch_parent\n"
            f"watch_parent(0.1)\nhere = pathlib.Path({str(self.folder)!r})\n"
            "def note(file, text): (here / file).open('a').write(f'{text}\\n')\n"
            "def wait(file):\n    while not (here / file).exists(): time.sleep(0.02)\n"
        )
        made = self.folder / f"{job.name}.made"
        tail = f"\npathlib.Path({str(made)!r}).touch()\n"
        tail += f"pathlib.Path({str(self.report(job))!r}).write_text('[{json.dumps(str(made))}]')"
        return [sys.executable, "-c", head + job.arguments[0] + tail]


def scripts(**codes: str) -> list[Job]:
    return [Job(name, "fit", (code,), "") for name, code in codes.items()]


def test_the_next_job_gets_the_free_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    note = "note('{}', os.environ['CUDA_VISIBLE_DEVICES'])"
    work = scripts(
        long=note.format("long") + "\nwait('third')",
        short="wait('long')\n" + note.format("short"),
        third=note.format("third"),
    )
    assert Scripted(tmp_path, 2).run_all(work, Progress(3)) == []
    gpus = {job.name: (tmp_path / "suite" / job.name).read_text().strip() for job in work}
    assert gpus["third"] == gpus["short"] != gpus["long"]
    assert set(gpus.values()) == {"3", "5"}


def test_two_suites_on_one_output_share_the_work(tmp_path, capsys):
    work = scripts(
        a="note('a', 1)\nwait('b')\nprint('log of a')",
        b="note('b', 1)\nwait('a')",
        c="note('c', 1)",
    )
    runners = [Scripted(tmp_path, 1), Scripted(tmp_path, 1)]
    failed = []

    def suite(runner: SuiteRunner) -> None:
        failed.extend(runner.run_all(work, Progress(3)))

    threads = [threading.Thread(target=suite, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [(tmp_path / "suite" / name).read_text() for name in "abc"] == ["1\n"] * 3
    assert runners[0].log(work[0]).read_text() == "log of a\n"
    printed = capsys.readouterr().out
    assert len(re.findall(r"\] \w: done in", printed)) == 3
    assert len(re.findall(r"\] \w: (already done|done by another suite)", printed)) == 3


def test_a_suite_says_what_it_waits_for_and_takes_over_from_one_that_was_killed(tmp_path, capsys):
    code = "note('pids', os.getpid())\nif not (here / 'free').exists(): wait('never')"
    (job,) = work = scripts(job=code)

    def killed() -> int:
        return len(Scripted(tmp_path, 1).run_all(work, Progress(1)))

    pids = tmp_path / "suite" / "pids"
    first = Fork(tmp_path / "printed", killed)
    first.wait_for(lambda: pids.exists() and pids.read_text())
    second = Scripted(tmp_path, 1)
    thread = threading.Thread(target=second.run_all, args=(work, Progress(1)))
    thread.start()
    said = ""
    while "waiting for job, which another suite runs" not in said:
        assert thread.is_alive()
        said += capsys.readouterr().out
        time.sleep(0.02)
    assert len(pids.read_text().split()) == 1
    (tmp_path / "suite" / "free").touch()
    first.signal(signal.SIGKILL)
    thread.join()
    assert first.status() == -signal.SIGKILL
    assert second.is_done(job)
    orphan, _ = pids.read_text().split()
    deadline = time.monotonic() + 30
    while lives(int(orphan)):  # it ends with its suite
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lives(process: int) -> bool:
    """Say whether a process runs; one that ended may wait for ever for somebody to ask for its status."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_time_to_go_counts_only_what_was_run():
    progress = Progress(total=10, done=6, ran=2, started=100.0)
    assert progress.line(jobs(1)[0], "done", 160.0).endswith("about 2 min to go")
    assert "to go" not in Progress(total=10, done=6).line(jobs(1)[0], "already done", 0.0)


@pytest.fixture
def warm(monkeypatch):
    """Let jobs start with torch and its kin imported, which takes longer than their work."""
    monkeypatch.setattr(suite_runner, "subprocess", warm_start.warm_subprocess())


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


def test_a_real_suite_ends_in_tables_and_resumes(tmp_path, warm, capsys):
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


def test_a_failed_distillation_keeps_its_cells_from_running(tmp_path, warm, capsys):
    suite = write_suite(tmp_path, model={"class_path": "Nope"})
    assert main(["suite", str(suite)]) == 1
    captured = capsys.readouterr()
    assert "Unknown class 'Nope'" in captured.out
    assert "[2/2] random: convnet, seed 0: not run, its distillation failed" in captured.out
    assert captured.err.count("failed: random: distil") == 1
    assert "not run: random: convnet, seed 0" in captured.err
    assert len(list((tmp_path / "runs" / "suite").glob("*.log"))) == 1
    assert not (tmp_path / "runs" / "leaderboards").exists()


def test_a_signal_stops_what_runs_starts_nothing_more_and_can_be_repeated(tmp_path):
    job, never = scripts(
        job="import signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(143))\nnote('up', 1)\nwait('never')",
        never="note('never', 1)",
    )

    def suite() -> int:
        runner, progress = Scripted(tmp_path, 1), Progress(2)
        try:
            runner.run_all([job, never], progress)
        finally:
            assert progress.done == 0
            assert not runner._running
            assert runner.run(never) == INTERRUPTED
        return 0

    fork = Fork(tmp_path / "printed", run_interruptible, suite)
    fork.wait_for((tmp_path / "suite" / "up").exists)
    fork.signal(signal.SIGTERM)
    assert fork.status() == 143, fork.output.read_text()
    runner = Scripted(tmp_path, 1)
    assert not (runner.folder / "never").exists()
    assert not runner.is_done(job)
    assert fork.output.read_text().count("\n") == 1


def test_an_interrupted_suite_says_how_to_go_on(tmp_path, warm):
    suite = write_suite(tmp_path)
    fork = Fork(tmp_path / "printed", main, ["suite", str(suite)])
    fork.wait_for(lambda: list((tmp_path / "runs").rglob("*.log")))
    fork.signal(signal.SIGINT)
    assert fork.status() == 130
    (told,) = fork.output.read_text().splitlines()
    assert told.startswith("interrupted: 0 of 2 jobs have ended")
    assert f"is kept in {tmp_path / 'runs'}" in told
    assert told.endswith(f"ddoq-bench suite {suite}")


def test_a_failure_is_told_by_the_line_that_names_the_student(tmp_path):
    runner = SuiteRunner(tmp_path, 1)
    (job,) = jobs(1)
    runner.folder.mkdir()
    runner.log(job).write_text("failed: vit, seed 0: no memory (details)\nerror: 1 of 1 failed\n")
    assert runner.last_line(job).startswith("failed: vit, seed 0: no memory")


@pytest.mark.parametrize("content", ["", "[", "{}", "[]", "3", '["results/none.json"]'])
def test_a_damaged_report_is_a_job_to_do_again(tmp_path, content):
    runner = SuiteRunner(tmp_path, 1)
    (job,) = jobs(1)
    runner.folder.mkdir()
    runner.report(job).write_text(content)
    assert not runner.is_done(job)


def test_a_job_whose_result_is_damaged_is_to_do_again(tmp_path, result_of):
    runner = SuiteRunner(tmp_path, 1)
    (job,) = jobs(1)
    runner.folder.mkdir()
    result = write_result(tmp_path / "results", result_of(top1=0.5))
    runner.report(job).write_text(json.dumps([str(result)]))
    assert runner.is_done(job)
    result.write_text(result.read_text().replace("0.5", "0.6"))
    assert not runner.is_done(job)
    assert result.is_file()  # the job itself sets it aside
