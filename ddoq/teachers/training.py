"""The training of a teacher, as a thin LightningModule."""

from collections.abc import Iterable
from dataclasses import dataclass

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ddoq.bounds import check_number
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.networks import Normalize
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
    shift_and_flip,
    streamed_batches,
)

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TeacherTraining:
    """How a teacher is trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images a step.
        lr: Highest learning rate.
        weight_decay: Decay of weights with two dimensions or more; biases and norms are not decayed.
        label_smoothing: Share of the label that is spread over all classes, in [0, 1).
        crop_pad: Pixels of black around an image out of which it is cropped at random.
        hflip: Whether half of the images are mirrored.
        optimizer: ``sgd`` (Nesterov momentum 0.9) or ``adamw``.
        warmup: Share of the steps in which the learning rate rises, in [0, 1); then it falls to 0 along a cosine.
        channels_last: Whether convolutions work on the channels-last layout.
        seed: Decides weights, order and augmentation.
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

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        check_seed("teacher.seed", self.seed)
        for what, least in (("epochs", 1), ("batch_size", 2), ("crop_pad", 0), ("weight_decay", 0)):
            check_number(f"teacher.{what}", getattr(self, what), at_least=least)
        check_number("teacher.lr", self.lr, above=0)
        for what in ("label_smoothing", "warmup"):
            check_number(f"teacher.{what}", getattr(self, what), at_least=0, below=1)
        if self.optimizer not in OPTIMIZERS:
            hint = suggest(self.optimizer, OPTIMIZERS)
            raise UserError(f"Unknown teacher.optimizer {self.optimizer!r}. {hint}")


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
        )
        self._epoch = TeacherEpoch(
            epoch.order, epoch.shifts.to(self.device), epoch.flips.to(self.device)
        )
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
        images = shift_and_flip(
            images,
            self._epoch.shifts[positions],
            self._epoch.flips[positions],
            self.settings.crop_pad,
        )
        normalized = self.normalize(to_float(images))
        if self.settings.channels_last:
            normalized = normalized.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(normalized)
        return F.cross_entropy(
            logits.float(), labels, label_smoothing=self.settings.label_smoothing
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and a schedule that moves every step."""
        from timm.optim import param_groups_weight_decay

        settings = self.settings
        groups = param_groups_weight_decay(self.network, settings.weight_decay)
        optimizer: torch.optim.Optimizer
        if settings.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        batches = len(batches_of(torch.arange(len(self.data.train)), settings.batch_size))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=settings.lr,
            total_steps=settings.epochs * batches,
            pct_start=settings.warmup,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
