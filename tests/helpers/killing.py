"""Ends trainings in the middle, as an exception would, or as the operating system does."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class KilledError(Exception):
    """Stands for whatever ends a process."""


class KillAt(Callback):
    """Raises when the training of a module has done so many steps, after their checkpoint was written."""

    def __init__(self, step: int, module: str | None = None) -> None:
        self.step = step
        self.module = module

    def kill(self) -> None:
        raise KilledError

    def on_train_batch_start(self, trainer, pl_module, *_) -> None:
        if trainer.global_step == self.step and self.module in (None, type(pl_module).__name__):
            self.kill()

    def on_train_end(self, trainer, pl_module) -> None:
        self.on_train_batch_start(trainer, pl_module)


class KillProcessAt(KillAt):
    """Ends the whole process at once: nothing is torn down, nothing is flushed."""

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(function: Callable[..., object], *args: object) -> None:
    """Call a function in a process of its own, and expect that it is killed.

    The process is a fork: to import torch and its kin again would take longer than what is tested.
    """
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join(timeout=300)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == -signal.SIGKILL


class Fork:
    """A function in a process of its own, a fork, with all that it prints in a file.

    Args:
        output: The file.
        function: Returns the exit status.
        args: Its arguments.
    """

    def __init__(self, output: Path, function: Callable[..., int], *args: object) -> None:
        self.output = output
        output.touch()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._run, args=(function, *args), daemon=True)
        self.process.start()  # whoever is left at the end of the tests is ended

    def _run(self, function: Callable[..., int], *args: object) -> None:
        with self.output.open("w", buffering=1) as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            sys.stdout = sys.stderr = stream
            status = function(*args)
        os._exit(status)  # what pytest has registered for the end is not the fork's

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something is true, as long as the process runs."""
        deadline = time.monotonic() + 120
        while not condition():
            assert self.process.exitcode is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def status(self) -> int:
        """Wait for its end and return its status, negative for a signal that killed it."""
        self.process.join(timeout=120)
        if self.process.exitcode is None:
            self.process.kill()
        assert self.process.exitcode is not None, self.output.read_text()
        return self.process.exitcode
