"""The training of a network for a number of steps, as autoencoder and diffusion transformer share it."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from ddoq.data.splits import ImageSplit
from ddoq.optimisation.trainers import ResumableBatches, run_training
from ddoq.seeding import generator_for
from ddoq.storage.checkpoints import Checkpoint

# How many points of a loss curve are kept for the record.
CURVE_POINTS = 50


class Images(Dataset[Tensor]):
    """The images of a split without labels, read batch by batch."""

    def __init__(self, split: ImageSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        """Count the images."""
        return len(self.split)

    def __getitem__(self, index: int) -> Tensor:
        """Return one image, uint8 ``(3, h, w)``."""
        return self.split.load([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        """Return several, which a split can decode together."""
        return list(self.split.load(indices))


class SeededTraining(L.LightningModule):
    """A training module whose random draws come from a CPU generator of its own, on whatever device it runs.

    Args:
        seed: Decides all draws.
        purpose: Keeps the draws of different trainings apart.
        learning_rate: Peak of the one-cycle schedule.
        steps: Length of the schedule.
    """

    def __init__(self, seed: int, purpose: str, learning_rate: float, steps: int) -> None:
        super().__init__()
        self.seed = seed
        self.purpose = purpose
        self.learning_rate = learning_rate
        self.steps = steps
        self.curve: list[Tensor] = []
        self._earlier = torch.empty(0)  # losses before a kill
        self._draws: Tensor | None = None  # how far the stream of draws was then

    def on_train_start(self) -> None:
        """Start the stream of draws, or go on in it."""
        self.generator = generator_for(self.seed, self.purpose, "draws")
        if self._draws is not None:
            self.generator.set_state(self._draws)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep how far the stream of draws is, and the losses."""
        checkpoint["draws"] = self.generator.get_state()
        checkpoint["losses"] = self.losses()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on in the stream, and behind the losses."""
        self._draws = checkpoint["draws"]
        self._earlier = checkpoint["losses"]

    def losses(self) -> Tensor:
        """Return the losses of all steps so far, float32 on the CPU."""
        parts = [part.float() for part in self.curve]
        return torch.cat([self._earlier, *([torch.stack(parts).cpu()] if parts else [])])

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal float32 noise of a shape, on the module's device."""
        return torch.randn(tuple(shape), generator=self.generator).to(self.device)

    def record(self, loss: Tensor) -> None:
        """Keep a loss for the record and show it in the progress bar."""
        self.curve.append(loss.detach())
        self.log("loss", loss.detach(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle schedule with a short warm-up."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            self.learning_rate,
            total_steps=self.steps + 1,
            pct_start=0.1,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass(frozen=True)
class Fit:
    """What a training left behind, beside the weights.

    Attributes:
        seconds: How long it took.
        losses: Means of the loss over up to 50 equal stretches of the training.
    """

    seconds: float
    losses: list[float]


def fit(
    module: SeededTraining,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    workers: int,
    trainer: Mapping[str, Any],
    callbacks: Sequence[Callback] = (),
    checkpoint: Checkpoint | None = None,
    what: str = "training",
    mend: str = "Lower the learning rate.",
) -> Fit:
    """Train a module for its number of steps on one device.

    Args:
        module: What to train.
        dataset: What to train on; permuted anew each time it is exhausted.
        batch_size: Items a step.
        workers: Worker processes of the loader.
        trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.
        callbacks: Added to those of ``trainer``.
        checkpoint: Where a killed process finds its state again; None keeps nothing.
        what: What to call the training in lines of progress and errors.
        mend: A sentence on what to try where it diverges.

    Returns:
        Seconds and losses.

    Raises:
        UserError: If there is a checkpoint that cannot be used, or one cannot be written.
        DivergedError: If losses or weights are not finite.
    """

    def start_at(step: int) -> DataLoader[Any]:
        order = RandomSampler(
            dataset,  # type: ignore[arg-type]  # sized, which Dataset does not say
            num_samples=module.steps * batch_size,
            generator=generator_for(module.seed, module.purpose, "order"),
        )
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=_Rest(order, step * batch_size),
            num_workers=workers,
            generator=generator_for(module.seed, module.purpose, "loader"),
        )

    started = time.perf_counter()
    module.train()
    run_training(
        module,
        ResumableBatches(module.steps, start_at),
        what=what,
        mend=mend,
        trainer=trainer,
        checkpoint=checkpoint,
        callbacks=callbacks,
    )
    seconds = time.perf_counter() - started if checkpoint is None else checkpoint.elapsed
    losses = module.losses()
    stretches = losses.tensor_split(min(CURVE_POINTS, len(losses)))
    return Fit(seconds, [float(part.mean()) for part in stretches])


class _Rest(Sampler[int]):
    """What a sampler gives after its first few."""

    def __init__(self, sampler: RandomSampler, skipped: int) -> None:
        self.sampler = sampler
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.sampler) - self.skipped

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.skipped, None)


def count_parameters(module: torch.nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(p.numel() for p in module.parameters())
