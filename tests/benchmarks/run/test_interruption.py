"""A command that is asked to end ends: one line, the status of the signal, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
import yaml
from killing import Fork

import benchmarks.commands.configured  # noqa: F401 - once, instead of in every fork
from benchmarks.cli import main
from benchmarks.run.interruption import Interrupted, current, run_interruptible
from ddoq.distillation.items import ItemRunner
from ddoq.storage import checkpoints

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
LONG = 20_000  # some minutes, while schedules of it are drawn quickly
# What takes for ever in each command, and the checkpoint that says that it is at it.
WORK = {
    "prior": ({}, "priors/.vae-*.checkpoint"),
    "teacher": ({}, "teachers/.*.checkpoint"),
    "distill": (
        {
            "model": {
                "class_path": "SRe2L",
                "init_args": {"ipc": 1, "iterations": LONG, "jitter": 2},
            }
        },
        "shards/*/*.checkpoint",
    ),
    "fit": ({"recipe": {"name": "hard", "overrides": {"epochs": LONG}}}, "students/.*.checkpoint"),
}


def config(folder: Path, **changes) -> list[str]:
    digits = {"limit_per_class": 12, "test_limit_per_class": 5}
    content = {
        "data": {"class_path": "Digits", "init_args": digits},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 1}},
        "recipe": {"name": "hard", "overrides": {"epochs": 1}},
        "output": str(folder / "runs"),
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return ["--config", str(TINY), "--config", str(folder / "config.yaml")]


def run(command: str, arguments: list[str]) -> int:
    checkpoints.INTERVAL = ItemRunner.checkpoint_seconds = 0.01
    return main([command, *arguments])


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("prior", signal.SIGTERM),
        ("teacher", signal.SIGINT),
        ("distill", signal.SIGHUP),
        ("fit", signal.SIGTERM),
    ],
)
def test_a_signal_ends_a_training_with_its_status_and_one_line(command, number, tmp_path):
    changes, checkpoint = WORK[command]
    arguments = config(tmp_path, **changes)
    if command == "prior":
        arguments += [f"--prior.init_args.vae.steps={LONG}"]
    if command == "teacher":
        arguments += [f"--teacher.init_args.epochs={LONG}"]
    fork = Fork(tmp_path / "printed", run, command, arguments)
    fork.wait_for(lambda: list((tmp_path / "runs").glob(checkpoint)))
    fork.signal(number)
    assert fork.status() == 128 + number, fork.output.read_text()
    printed = fork.output.read_text()
    kept = f"interrupted: everything finished so far is kept in {tmp_path / 'runs'}; run the same"
    assert printed.splitlines()[-1].startswith(kept)
    assert printed.count("interrupted") == 1
    assert "Traceback" not in printed
    assert list((tmp_path / "runs").glob(checkpoint))
    assert not list((tmp_path / "runs").glob("failures/*"))


def test_a_signal_while_torch_is_imported(tmp_path):
    arguments = [sys.executable, "-m", "benchmarks", "fit", *config(tmp_path)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        status = Path(f"/proc/{process.pid}/status")
        if not status.exists():
            process.kill()
            pytest.skip("nothing tells when a process listens")
        deadline = time.monotonic() + 60
        while True:  # from then on torch is imported, which takes seconds
            caught = int(status.read_text().split("SigCgt:")[1].split()[0], 16)
            if caught >> (signal.SIGTERM - 1) & 1:
                break
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
    assert process.returncode == 143, told
    assert told.count("\n") == 1
    assert told.startswith("interrupted: everything finished so far is kept; run the same command")


def in_a_collective(patience: float, ready: Path) -> int:
    """Wait for another rank, for ever: no Python runs meanwhile, whatever the signal."""

    def wait() -> int:
        current().patience = patience
        current().hint = lambda: "nobody came"
        store = dist.FileStore(str(ready.with_name("store")), 2)
        ready.write_text("")
        store.wait(["never"], timedelta(seconds=100))
        return 0

    return run_interruptible(wait)


@pytest.mark.parametrize("patience", [0.2, 100.0])
def test_who_is_stuck_ends_when_patience_does_or_at_a_second_signal(patience, tmp_path):
    fork = Fork(tmp_path / "printed", in_a_collective, patience, tmp_path / "ready")
    fork.wait_for((tmp_path / "ready").exists)
    fork.signal(signal.SIGTERM)
    if patience > 1:
        time.sleep(1.1)  # sooner it would be the same request, by way of a launcher
        fork.signal(signal.SIGINT)
    assert fork.status() == 143
    assert fork.output.read_text() == "interrupted: nobody came\n"


def test_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)

    def ask_twice() -> int:
        assert signal.getsignal(signal.SIGTERM) != before
        try:
            ask(signal.SIGTERM)
        except Interrupted:
            ask(signal.SIGINT)  # at once: the same request
        return 0

    assert run_interruptible(ask_twice) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def ask(number: int) -> int:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # handlers run between two steps of the interpreter
    return 0


def test_whatever_a_library_makes_of_an_interrupt_the_status_tells_the_signal(capsys):
    def library() -> int:
        try:
            return ask(signal.SIGTERM)
        except KeyboardInterrupt:
            sys.exit(1)

    assert run_interruptible(library) == 143
    assert capsys.readouterr().err.startswith("interrupted: ")


class Destroyed:
    """Is asked to end in its destructor, which lets no exception out."""

    def __del__(self):
        ask(signal.SIGTERM)


def test_a_signal_in_a_destructor_is_not_lost(capsys):
    def destroy() -> int:
        Destroyed()
        time.sleep(60)
        return 0

    began = time.monotonic()
    assert run_interruptible(destroy) == 143
    assert time.monotonic() - began < 5  # before patience ends
    assert capsys.readouterr().err.count("\n") == 1


def test_other_threads_go_without():
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(["--help"])))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_interruptible(lambda: ask(signal.SIGHUP)) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_one_rank_speaks_for_all(variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, "1")
    assert run_interruptible(lambda: ask(signal.SIGTERM)) == 143
    assert capsys.readouterr().err == ""
