"""The training of Barlow Twins, as a thin LightningModule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ddoq.augmentation.views import Views, ViewSettings, draw_views, make_view
from ddoq.bounds import check_number
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.networks import Normalize
from ddoq.objectives.cross_correlation import cross_correlation, redundancy_loss
from ddoq.optimisation.schedules import cosine_factor
from ddoq.optimisation.trainers import ResumableBatches
from ddoq.seeding import generator_for
from ddoq.teachers.batches import (
    Batch,
    ResidentBatches,
    batches_of,
    fits,
    load_split,
    streamed_batches,
)

Optimizer = Literal["lars", "adamw"]

# Of LARS, solo-learn's script for CIFAR: how far a step goes, relative to the weights.
_TRUST = 0.02
_MOMENTUM = 0.9


@dataclass(frozen=True)
class TwinsTraining:
    """How the network is trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images a step, each in two views.
        lr: Highest learning rate.
        weight_decay: Decay of weights with two dimensions or more.
        optimizer: ``lars`` (momentum 0.9) or ``adamw``.
        warmup: Share of the training in which the learning rate rises, in [0, 1).
        redundancy: Weight of correlations between different numbers of an answer.
        scale: What the loss is multiplied by.
        views: How each of the two views is made.
        seed: Decides order and views.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    optimizer: Optimizer
    warmup: float
    redundancy: float
    scale: float
    views: tuple[ViewSettings, ViewSettings]
    seed: int

    def check(self, prefix: str) -> None:
        """Refuse values that no training could use.

        Args:
            prefix: What stands before their names in errors.

        Raises:
            UserError: Naming the setting and its bounds.
        """
        for name, least in (("epochs", 1), ("batch_size", 2), ("weight_decay", 0)):
            check_number(f"{prefix}.{name}", getattr(self, name), at_least=least)
        for name in ("lr", "redundancy", "scale"):
            check_number(f"{prefix}.{name}", getattr(self, name), above=0)
        check_number(f"{prefix}.warmup", self.warmup, at_least=0, below=1)
        if self.optimizer not in get_args(Optimizer):
            raise UserError(
                f"Unknown {prefix}.optimizer {self.optimizer!r}. {suggest(self.optimizer, get_args(Optimizer))}"
            )
        for view in self.views:
            low, high = view.crop_scale
            if not 0 < low <= high <= 1:
                raise UserError(
                    f"{prefix}.crop_scale must be two ascending numbers in (0, 1], not {[low, high]}."
                )
            for name in ("blur", "solarise"):
                check_number(f"{prefix}.{name}", getattr(view, name), at_least=0, at_most=1)


def make_projector(width: int, hidden: int) -> nn.Sequential:
    """Make what the loss sees of features: three linear layers, the first two with batch norm and ReLU."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
    )


class TwinsModule(L.LightningModule):
    """Trains a network on two views of each image; it reads no labels.

    Args:
        network: From normalised images to features, float ``(n, d)``.
        projector: From features to what the loss compares.
        data: The dataset, set up.
        settings: How to train.
    """

    def __init__(
        self,
        network: nn.Module,
        projector: nn.Module,
        data: ImageDataModule,
        settings: TwinsTraining,
    ) -> None:
        super().__init__()
        self.network = network
        self.projector = projector
        self.normalize = Normalize(data.mean, data.std)
        self.data = data
        self.settings = settings
        self._curve: list[Tensor] = []
        self._earlier = torch.empty(0)  # losses before a kill
        self._resident: Tensor | None = None
        self._views: tuple[Views, Views]

    def losses(self) -> Tensor:
        """Return the losses of all steps so far, float32 on the CPU."""
        later = [torch.stack(self._curve).float().cpu()] if self._curve else []
        return torch.cat([self._earlier, *later])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses."""
        checkpoint["losses"] = self.losses()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on behind the losses."""
        self._earlier = checkpoint["losses"]

    def on_fit_start(self) -> None:
        """Keep the training images on the device, if they fit."""
        side = self.data.image_size
        if fits(len(self.data.train) * 3 * side * side, self.device):
            self._resident = load_split(self.data.train).to(self.device)

    def train_dataloader(self) -> ResumableBatches[Batch]:
        """Draw an epoch and return its batches; the trainer asks anew before every epoch."""
        settings, train, epoch = self.settings, self.data.train, self.current_epoch
        size = (self.data.image_size, self.data.image_size)
        first, second = (
            draw_views(
                len(train), size, settings.views[view], seed=settings.seed, epoch=epoch, view=view
            ).to(self.device)
            for view in (0, 1)
        )
        self._views = first, second
        order = torch.randperm(
            len(train), generator=generator_for(settings.seed, "barlow-twins", "order", epoch)
        )
        positions = batches_of(order, settings.batch_size)

        def start_at(number: int) -> Iterable[Batch]:
            rest = positions[number:]
            if self._resident is None:
                return streamed_batches(train, rest, self.data.num_workers)
            moved = [batch.to(self.device) for batch in rest]
            none = torch.zeros(len(train), dtype=torch.int64, device=self.device)
            return ResidentBatches(self._resident, none, moved)

        return ResumableBatches(len(positions), start_at)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch in two views; its labels are not looked at."""
        images, _, positions = batch
        pixels = to_float(images)
        answers = [self._answer(make_view(pixels, view.rows(positions))) for view in self._views]
        correlation = cross_correlation(answers[0].float(), answers[1].float())
        loss = self.settings.scale * redundancy_loss(correlation, self.settings.redundancy)
        self._curve.append(loss.detach())
        return loss

    def _answer(self, view: Tensor) -> Tensor:
        answer: Tensor = self.projector(self.network(self.normalize(view)).flatten(1))
        return answer

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser, and a schedule that goes up along a line and down along a cosine, set every step."""
        from timm.optim import Lars, param_groups_weight_decay

        settings = self.settings
        both = nn.ModuleList([self.network, self.projector])
        groups = param_groups_weight_decay(both, settings.weight_decay)
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "lars":
            optimizer = Lars(
                groups, lr=settings.lr, momentum=_MOMENTUM, trust_coeff=_TRUST, trust_clip=True
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        batches = len(batches_of(torch.arange(len(self.data.train)), settings.batch_size))
        total = settings.epochs * batches
        warmup = int(settings.warmup * total)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine_factor(min(step, total), total, warmup=warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
