"""Ends trainings in the middle, as an exception would, or as the operating system does."""

import multiprocessing
import os
import signal
from collections.abc import Callable

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
