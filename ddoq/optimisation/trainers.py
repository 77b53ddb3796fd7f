"""Lightning trainers for parts that are trained once, on one device, and kept: priors and teachers."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from ddoq.finite import NotFiniteError
from ddoq.optimisation.callbacks import (
    CheckpointFile,
    ProgressLines,
    SaveCheckpoints,
    StopDiverged,
)
from ddoq.storage.checkpoints import Checkpoint

Batch = TypeVar("Batch")


class ResumableBatches(Generic[Batch]):
    """Batches of one pass which begin, in a training that goes on, behind those that were done.

    Args:
        length: Number of batches.
        start_at: Opens the batches from a number on.
    """

    def __init__(self, length: int, start_at: Callable[[int], Iterable[Batch]]) -> None:
        self.length = length
        self._start_at = start_at
        self._first = self._done = 0

    def __len__(self) -> int:
        """Count the batches of the whole pass."""
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches that are left."""
        self._done = self._first
        for batch in self._start_at(self._first):
            self._done += 1
            yield batch
        self._first = 0

    def state_dict(self) -> dict[str, Any]:
        """Say how many were given out; Lightning keeps it in checkpoints."""
        return {"done": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin behind those."""
        self._first = int(state_dict["done"])


def make_trainer(
    trainer: Mapping[str, Any], callbacks: Sequence[Callback] = (), **settings: Any
) -> L.Trainer:
    """Make a Lightning trainer for one device that writes no files of its own.

    Args:
        trainer: Keyword arguments that say where to run; what such a training decides for itself is overridden. Of
            listed ``devices`` it takes the first, a rank's own; of a number of them any one.
        callbacks: Added to those of ``trainer``.
        settings: Further keyword arguments.

    Returns:
        The trainer; its ``strategy.root_device`` is where it will run.
    """
    bar = trainer.get("enable_progress_bar")
    devices = trainer.get("devices")
    return L.Trainer(
        **{
            **trainer,
            "devices": [devices[0]] if isinstance(devices, list) and devices else 1,
            "num_nodes": 1,
            "strategy": "auto",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            # Without a terminal a bar would fill a log with halves of lines; it gets whole ones.
            "enable_progress_bar": bar if sys.stdout.isatty() else False,
            **settings,
            "callbacks": [*trainer.get("callbacks", ()), *callbacks],
        }
    )


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """Say where a training with these keyword arguments for ``lightning.Trainer`` would run."""
    return make_trainer(trainer).strategy.root_device


def run_training(
    module: L.LightningModule,
    batches: ResumableBatches[Any] | None = None,
    *,
    what: str,
    mend: str,
    trainer: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> torch.device:
    """Train a module to its end, from where a killed process left it, with lines of progress.

    A training that was killed ends with the same bits as one that was not, if its draws come from the global
    generators or are kept by the module, and if its batches are :class:`ResumableBatches`.

    Args:
        module: What to train.
        batches: What to train on; None asks the module's ``train_dataloader``.
        what: What to call the training in lines of progress and errors.
        mend: A sentence on what to try where it diverges.
        trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.
        checkpoint: Where the state is kept; None keeps nothing.
        callbacks: Added to those of ``trainer``.
        settings: Further keyword arguments for ``lightning.Trainer``.

    Returns:
        The device that it ran on.

    Raises:
        UserError: If there is a checkpoint that cannot be used, or one cannot be written.
        DivergedError: If losses or weights are not finite; the checkpoint is then removed.
    """
    guard = StopDiverged(what, mend)
    added = [*callbacks, ProgressLines(what), guard]
    path = None
    if checkpoint is not None:
        file = CheckpointFile(checkpoint)
        path = checkpoint.path if file.exists() else None
        added.append(SaveCheckpoints(checkpoint))  # last: it keeps what the others have changed
        settings["plugins"] = [*(trainer.get("plugins") or ()), file]
    loop = make_trainer(trainer, added, **settings)
    try:
        loop.fit(module, batches, ckpt_path=path)
        guard.check_weights(loop, module)
    except NotFiniteError:
        if checkpoint is not None:
            checkpoint.clear()
        raise
    return loop.strategy.root_device
