"""The training of a teacher, as a thin LightningModule."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ddoq.augmentation.epochs import crop_and_flip
from ddoq.augmentation.shifts import shift_and_flip
from ddoq.bounds import check_number
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.networks import Normalize
from ddoq.optimisation.schedules import cosine_factor
from ddoq.optimisation.trainers import ResumableBatches
from ddoq.seeding import check_seed
from ddoq.teachers.batches import (
    Batch,
    ResidentBatches,
    TeacherEpoch,
    batches_of,
    draw_teacher_epoch,
    fits,
    load_split,
    streamed_batches,
)

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one_cycle", "cosine")
DECAYS = ("matrices", "all")

_LATER: dict[str, Any] = {"since": 2}  # a field that came after teachers had been trained


@dataclass(frozen=True)
class TeacherTraining:
    """How a teacher is trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images a step.
        lr: Highest learning rate.
        weight_decay: Decay of the tensors that ``weight_decay_on`` names.
        label_smoothing: Share of the label that is spread over all classes, in [0, 1).
        crop_pad: Pixels of black around an image out of which it is cropped at random.
        hflip: Whether half of the images are mirrored.
        optimizer: ``sgd`` (momentum 0.9) or ``adamw``.
        warmup: Share of the training in which the learning rate rises, in [0, 1).
        channels_last: Whether convolutions work on the channels-last layout.
        seed: Decides weights, order and augmentation.
        nesterov: Whether the momentum of ``sgd`` is Nesterov's.
        weight_decay_on: ``matrices``: weights with two dimensions or more, no biases and norms; ``all``: everything.
        schedule: ``one_cycle``: up along a cosine from 1/25 and down along another, set every step; ``cosine``: up along
            a line from 1/100 in whole epochs, rounded down, then down along a cosine to 0, set every epoch.
        crop_scale: Smallest and largest share of the area of random resized crops, which take the place of
            ``crop_pad``; None makes none.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    label_smoothing: float
    crop_pad: int
    hflip: bool
    optimizer: str
    warmup: float
    channels_last: bool
    seed: int
    nesterov: bool = field(default=True, metadata=_LATER)
    weight_decay_on: str = field(default="matrices", metadata=_LATER)
    schedule: str = field(default="one_cycle", metadata=_LATER)
    crop_scale: tuple[float, float] | None = field(default=None, metadata=_LATER)

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        check_seed("teacher.seed", self.seed)
        for what, least in (("epochs", 1), ("batch_size", 2), ("crop_pad", 0), ("weight_decay", 0)):
            check_number(f"teacher.{what}", getattr(self, what), at_least=least)
        check_number("teacher.lr", self.lr, above=0)
        for what in ("label_smoothing", "warmup"):
            check_number(f"teacher.{what}", getattr(self, what), at_least=0, below=1)
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "weight_decay_on": DECAYS}
        for what, names in choices.items():
            value = getattr(self, what)
            if value not in names:
                raise UserError(f"Unknown teacher.{what} {value!r}. {suggest(value, names)}")
        if self.crop_scale is None:
            return
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(
                f"teacher.crop_scale must be two ascending numbers in (0, 1], not {[low, high]}: the smallest and the "
                "largest share of the area that a crop keeps."
            )
        if self.crop_pad > 0:
            raise UserError(
                f"teacher.crop_scale {[low, high]} takes the place of crop_pad ({self.crop_pad}): leave one of them out."
            )


class TeacherModule(L.LightningModule):
    """Trains a network on the real training split.

    Args:
        network: Takes normalised images.
        data: The dataset, set up.
        settings: How to train.
    """

    def __init__(
        self, network: nn.Module, data: ImageDataModule, settings: TeacherTraining
    ) -> None:
        super().__init__()
        self.network = network
        self.normalize = Normalize(data.mean, data.std)
        self.data = data
        self.settings = settings
        self._resident: tuple[Tensor, Tensor] | None = None
        self._epoch: TeacherEpoch

    def on_fit_start(self) -> None:
        """Keep the training images on the device, if they fit."""
        side = self.data.image_size
        if fits(len(self.data.train) * 3 * side * side, self.device):
            images = load_split(self.data.train).to(self.device)
            self._resident = images, self.data.train.labels.to(self.device)

    def train_dataloader(self) -> ResumableBatches[Batch]:
        """Draw an epoch and return its batches; the trainer asks anew before every epoch."""
        settings, train = self.settings, self.data.train
        epoch = draw_teacher_epoch(
            len(train),
            crop_pad=settings.crop_pad,
            hflip=settings.hflip,
            seed=settings.seed,
            epoch=self.current_epoch,
            crop_scale=settings.crop_scale,
            size=(self.data.image_size, self.data.image_size),
        )
        self._epoch = epoch.to(self.device)
        positions = batches_of(epoch.order, settings.batch_size)

        def start_at(first: int) -> Iterable[Batch]:
            rest = positions[first:]
            if self._resident is None:
                return streamed_batches(train, rest, self.data.num_workers)
            images, labels = self._resident
            return ResidentBatches(images, labels, [batch.to(self.device) for batch in rest])

        return ResumableBatches(len(positions), start_at)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of an augmented batch."""
        images, labels, positions = batch
        normalized = self.normalize(self._augment(images, positions))
        if self.settings.channels_last:
            normalized = normalized.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(normalized)
        return F.cross_entropy(
            logits.float(), labels, label_smoothing=self.settings.label_smoothing
        )

    def _augment(self, images: Tensor, positions: Tensor) -> Tensor:
        """Crop and mirror pixels, uint8 ``(b, 3, h, w)``: float in [0, 1]."""
        epoch = self._epoch
        flips = epoch.flips[positions]
        if epoch.crops is not None:
            return crop_and_flip(to_float(images), epoch.crops[positions], flips)
        shifts = epoch.shifts[positions]
        return to_float(shift_and_flip(images, shifts, flips, self.settings.crop_pad))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and a schedule that moves every step, or every epoch."""
        settings = self.settings
        groups = self._groups()
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=settings.lr, momentum=0.9, nesterov=settings.nesterov
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        if settings.schedule == "cosine":
            warmup = math.floor(settings.warmup * settings.epochs + 1e-9)  # 0.29 * 100 is 28.99...
            epochs = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda epoch: cosine_factor(epoch, settings.epochs, warmup=warmup)
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": epochs, "interval": "epoch"},
            }
        batches = len(batches_of(torch.arange(len(self.data.train)), settings.batch_size))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=settings.lr,
            total_steps=settings.epochs * batches,
            pct_start=settings.warmup,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self) -> list[dict[str, Any]]:
        """Say which tensors decay."""
        from timm.optim import param_groups_weight_decay

        if self.settings.weight_decay_on == "all":
            tensors = [p for p in self.network.parameters() if p.requires_grad]
            return [{"params": tensors, "weight_decay": self.settings.weight_decay}]
        groups: list[dict[str, Any]] = param_groups_weight_decay(
            self.network, self.settings.weight_decay
        )
        return groups
