"""The training loop that autoencoder and diffusion transformer share."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from ddoq.data.base import ImageSplit
from ddoq.seeding import generator_for

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

    def on_train_start(self) -> None:
        """Start the stream of draws."""
        self.generator = generator_for(self.seed, self.purpose, "draws")

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


def make_trainer(trainer: Mapping[str, Any], callbacks: Sequence[Callback] = ()) -> L.Trainer:
    """Make a Lightning trainer for one pass on one device that writes nothing.

    Args:
        trainer: Keyword arguments that say where to run; what a prior decides for itself is overridden.
        callbacks: Added to those of ``trainer``.

    Returns:
        The trainer; its ``strategy.root_device`` is where it will run.
    """
    settings: dict[str, Any] = {
        **trainer,
        "devices": 1,
        "strategy": "auto",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "callbacks": [*trainer.get("callbacks", ()), *callbacks],
    }
    return L.Trainer(**settings)


def fit(
    module: SeededTraining,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    workers: int,
    trainer: Mapping[str, Any],
    callbacks: Sequence[Callback] = (),
) -> Fit:
    """Train a module for its number of steps on one device.

    Args:
        module: What to train.
        dataset: What to train on; permuted anew each time it is exhausted.
        batch_size: Items a step.
        workers: Worker processes of the loader.
        trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.
        callbacks: Added to those of ``trainer``.

    Returns:
        Seconds and losses.
    """
    sampler = RandomSampler(
        dataset,  # type: ignore[arg-type]  # sized, which Dataset does not say
        num_samples=module.steps * batch_size,
        generator=generator_for(module.seed, module.purpose, "order"),
    )
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        generator=generator_for(module.seed, module.purpose, "loader"),
    )
    loop = make_trainer(trainer, callbacks)
    started = time.perf_counter()
    module.train()
    loop.fit(module, loader)
    seconds = time.perf_counter() - started
    stretches = (
        torch.stack(module.curve).float().cpu().tensor_split(min(CURVE_POINTS, len(module.curve)))
    )
    return Fit(seconds, [float(part.mean()) for part in stretches])


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """Say where a training with these keyword arguments for ``lightning.Trainer`` would run."""
    return make_trainer(trainer).strategy.root_device


def count_parameters(module: torch.nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(p.numel() for p in module.parameters())
