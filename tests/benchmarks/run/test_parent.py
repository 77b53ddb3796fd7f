"""Jobs and ranks end with the process that started them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.run.parent import PARENT

ROOT = str(Path(__file__).parents[3])
WATCHING = (
    "import os, pathlib, time; from benchmarks.run.parent import watch_parent\n"
    "watch_parent(0.1)\n"
    "pathlib.Path({up!r}).write_text(str(os.getpid()))\n"
    "time.sleep(100)\n"
)


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"LOCAL_RANK": "1"}, "the process that launched this rank"),
        ({PARENT: "LAUNCHER"}, "the suite that started this job"),
    ],
)
def test_a_process_ends_with_the_one_that_started_it(environment, what, tmp_path):
    started = WATCHING.format(up=str(tmp_path / "up"))
    launcher = (
        "import os, pathlib, subprocess, sys, time\n"
        f"given = {{k: v.replace('LAUNCHER', str(os.getpid())) for k, v in {environment!r}.items()}}\n"
        f"subprocess.Popen([sys.executable, '-c', {started!r}], env=os.environ | given)\n"
        f"while not pathlib.Path({str(tmp_path / 'up')!r}).exists(): time.sleep(0.05)\n"
    )
    assert f"error: {what} is gone" in errors_of(launcher)


def test_a_job_ends_whose_suite_was_gone_before_it_could_look(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    started = WATCHING.format(up=str(tmp_path / "up"))
    assert "the suite that started this job is gone" in errors_of(started, {PARENT: str(gone.pid)})
    assert not (tmp_path / "up").exists()


def test_a_process_between_suite_and_job_is_no_loss(tmp_path):
    # e.g. `uv run`: the one that is named lives, yet it is not the parent.
    done = "from benchmarks.run.parent import watch_parent\nwatch_parent(0.1)\nprint(1)"
    assert errors_of(done, {PARENT: str(os.getppid())}) == ""


def errors_of(code: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": ROOT, **(environment or {})},
        check=False,
        capture_output=True,  # ends when what was started, too, has closed its output
        text=True,
        timeout=90,
    )
    return done.stderr
