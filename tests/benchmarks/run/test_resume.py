"""A run that is killed goes on where it stopped and ends with the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm_start
import yaml

from benchmarks.cli import main
from ddoq.distillation.distilled_set import DistilledSet

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def arguments(output: Path) -> list[str]:
    output.mkdir(parents=True, exist_ok=True)
    config = {
        "data": {"class_path": "Digits", "init_args": {"limit_per_class": 8}},
        "model": {"class_path": "SRe2L", "init_args": {"ipc": 6, "iterations": 60, "jitter": 2}},
        "recipe": {"name": "unified", "overrides": {"epochs": 1}},
    }
    path = output / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["fit", "--config", str(TINY), "--config", str(path), "--output", str(output)]


def fingerprint(output: Path) -> str:
    (folder,) = (output / "distilled").iterdir()
    return DistilledSet.load(folder).fingerprint


def test_a_killed_run_goes_on(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    start = [sys.executable, "-m", "benchmarks"]
    process = warm_start.Process([*start, *arguments(tmp_path / "killed")], **silent)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("shards/*/*.safetensors")):
        assert time.monotonic() < deadline, "no shard appeared"
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "killed").glob("shards/*/*.safetensors")}
    if len(made) == 6:
        pytest.skip("all work was done before the signal arrived")
    for folder in ("killed", "whole"):  # here: to import torch and its kin again takes longer
        assert main(arguments(tmp_path / folder)) == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in made.items())
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")
    assert len(list((tmp_path / "killed" / "results").glob("*.json"))) == 1
