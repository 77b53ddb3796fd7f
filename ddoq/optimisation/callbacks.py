"""What Lightning's trainings need to survive a kill and to say how far they are."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback

from ddoq.console import Progress
from ddoq.storage.checkpoints import Checkpoint, flatten, unflatten

_GENERATORS = "global_generators"  # their entry in Lightning's dictionary


class CheckpointFile(CheckpointIO):
    """Keeps what Lightning gathers for a checkpoint in one of ours: nothing is unpickled, damage is noticed.

    Args:
        checkpoint: The file.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._loaded: Any = None

    def exists(self) -> bool:
        """Read the checkpoint of an earlier process, if there is one.

        Raises:
            UserError: If it cannot be used.
        """
        loaded = self.checkpoint.load()
        if loaded is not None:
            self._loaded = unflatten(*loaded)["training"]
        return loaded is not None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write Lightning's dictionary; it knows the path already."""
        tensors, rest = flatten({"training": checkpoint})
        self.checkpoint.save(tensors, rest)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what :meth:`exists` has read, and forget it."""
        loaded: dict[str, Any] = self._loaded
        self._loaded = None
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file."""
        self.checkpoint.clear()


class SaveCheckpoints(Callback):
    """Writes a checkpoint after a step whenever one is due, with the state of the global generators.

    Networks with dropout draw from these. Put it behind callbacks that change what is kept, such as averages.

    Args:
        checkpoint: The file; the trainer has a :class:`CheckpointFile` for it among its plugins.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._generators: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Write one if it is time."""
        if self.checkpoint.due():
            trainer.save_checkpoint(self.checkpoint.path, weights_only=False)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the generators' states."""
        checkpoint[_GENERATORS] = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            checkpoint[_GENERATORS]["cuda"] = torch.cuda.get_rng_state(pl_module.device)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take them out, to set them when the loop starts: until then, others may draw."""
        self._generators = checkpoint[_GENERATORS]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set them."""
        if "cpu" in self._generators:
            torch.set_rng_state(self._generators["cpu"])
        if "cuda" in self._generators and pl_module.device.type == "cuda":
            torch.cuda.set_rng_state(self._generators["cuda"], pl_module.device)
        self._generators = {}


class ProgressLines(Callback):
    """Prints lines on a training where no progress bar shows how far it is.

    Args:
        what: What to call the training.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._progress: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock at the step where the training starts or goes on."""
        if trainer.progress_bar_callback is not None:
            return
        total = trainer.estimated_stepping_batches
        if 0 < total < float("inf"):
            self._progress = Progress(self.what, int(total), done=trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Print a line if it is time."""
        if self._progress is not None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            self._progress.update(trainer.global_step, loss=loss)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._progress = None
