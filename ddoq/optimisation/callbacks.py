"""What Lightning's trainings need to survive a kill and to say how far they are."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from ddoq.console import Progress
from ddoq.finite import DivergedError, LossWatch, non_finite_tensors
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


class StopDiverged(Callback):
    """Ends a training whose loss is NaN or infinite.

    Losses stay on the device: they are read every :data:`ddoq.finite.LOOK` steps, before a test, before a checkpoint, and
    at the end. Ranks that train together look at the same steps and end together. Put it in front of what writes
    checkpoints.

    Args:
        what: What to call the training.
        mend: A sentence on what to try.
    """

    def __init__(self, what: str, mend: str) -> None:
        self.what = what
        self.mend = mend
        self._watch = LossWatch()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count from the step where the training starts or goes on."""
        self._watch = LossWatch(trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Take the loss of a step, and look if it is time."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._watch.add(loss)
        if self._watch.due():
            self.look(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look before a test in the course of a training, whose logits would only be a consequence."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.look(trainer)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before a checkpoint is written: nobody shall go on from NaN."""
        self.look(trainer)
        self.check_weights(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last steps."""
        self.look(trainer)

    def look(self, trainer: L.Trainer) -> None:
        """Read the losses since the last look.

        Raises:
            DivergedError: If one is not finite, on this rank or another.
        """
        bad = self._watch.first_bad()
        if not trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
            return
        if bad is None:
            raise DivergedError(f"{self.what} diverged on another rank. {self.mend}")
        step, loss = bad
        raise DivergedError(
            f"{self.what} diverged: the loss was {loss} in {_moment(trainer, step)}. {self.mend}"
        )

    def check_weights(self, trainer: L.Trainer, module: torch.nn.Module) -> None:
        """Refuse weights that are not finite; all ranks must call it together.

        Raises:
            DivergedError: Naming the first of them.
        """
        broken = non_finite_tensors(module)
        if trainer.strategy.reduce_boolean_decision(bool(broken), all=False):
            name = broken[0] if broken else "those of another rank"
            raise DivergedError(
                f"{self.what} diverged: after step {trainer.global_step} weights are not finite (NaN or infinite): "
                f"{name}. {self.mend}"
            )


def _moment(trainer: L.Trainer, step: int) -> str:
    """Say when a step was, counted from 1."""
    epochs, batches = trainer.max_epochs or 1, int(trainer.num_training_batches)
    if epochs <= 1 or batches < 1:
        return f"step {step} of {trainer.estimated_stepping_batches}"
    epoch, within = divmod(step - 1, batches)
    return f"epoch {epoch + 1} of {epochs}, step {within + 1} of {batches}"
