"""Ranks that Lightning launched end with the process that launched them, however that ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = Path(__file__).parent.parent / "configs" / "tiny.yaml"
MODEL = {"class_path": "SRe2L", "init_args": {"ipc": 2, "iterations": 20_000, "jitter": 2}}


def children(process: int) -> list[int]:
    """List the processes that a process has started."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def lives(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="nothing lists processes")
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_ranks_end_with_their_launcher(number, status, tmp_path):
    digits = {
        "class_path": "Digits",
        "init_args": {"limit_per_class": 6, "test_limit_per_class": 7},
    }
    (tmp_path / "config.yaml").write_text(json.dumps({"data": digits, "model": MODEL}))
    command = [sys.executable, "-m", "benchmarks", "distill", "--output", str(tmp_path / "runs")]
    command += ["--config", str(TINY), "--config", str(tmp_path / "config.yaml")]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    with (
        (tmp_path / "printed").open("w") as printed,
        subprocess.Popen(
            command, stdout=printed, stderr=printed, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ) as process,
    ):
        wait_for(
            lambda: list((tmp_path / "runs").glob("shards/*")) and len(children(process.pid)) > 0,
            120,
        )
        ranks = children(process.pid)
        # The rank works, or is about to: it has imported what takes seconds.
        wait_for(
            lambda: "work items" in (tmp_path / "printed").read_text() or cpu(ranks[0]) > 8, 120
        )
        process.send_signal(number)
        assert process.wait(timeout=60) == status
    wait_for(lambda: not any(map(lives, ranks)), 20)
    told = (tmp_path / "printed").read_text()
    assert "Traceback" not in told
    assert told.count("interrupted: everything finished so far is kept in") == int(status > 0)


def cpu(process: int) -> float:
    """Return the seconds that a process has worked."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
