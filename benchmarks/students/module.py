"""The Lightning module that trains one student on a distilled set and tests it on the real test set."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.students.augmentation import Draws
from benchmarks.students.batch_norm import batch_statistics, statistics_parts
from benchmarks.students.batches import Batch, CachedBatches, EpochPositions, cache_budget
from benchmarks.students.recipe import Recipe
from benchmarks.students.stored_labels import StoredLabels
from benchmarks.students.training_set import TrainingSet
from ddoq.finite import DivergedError
from ddoq.labels.compact import expand
from ddoq.labels.losses import (
    hard_cross_entropy,
    mix_weights,
    soft_cross_entropy,
    soft_kl,
    squared_error,
    weighted_mean,
)
from ddoq.precision import without_autocast
from ddoq.seeding import derive_seed


class StudentModule(L.LightningModule):
    """Train a network on a distilled set that lives on the device; test it on uint8 images.

    The trainer's precision is that of the network alone: images, labels and losses are float32 under every
    one.

    The set and the teacher are plain attributes, not buffers and submodules: they are no part of the student's
    state, and DDP would broadcast buffers of that size in every step. Under DDP every rank takes its share of the
    same batches, and losses are scaled so that the averaged gradient is that of the whole batch.

    Args:
        network: From images in [0, 1], or of the space of the set's transform, to logits.
        training: What to train on, and by which recipe.
        num_classes: Number of classes.
        lr: Learning rate at the start; of each stage, where images join in stages.
        seed: Decides the order of images, dropout and, unless labels are stored, augmentation.
        teacher: From images in [0, 1] to logits; needed where the recipe labels online.
        stored: The labels where the recipe stores them; all of their files are there.
        make_test_loader: Makes batches of real test images, uint8, and labels.

    Attributes:
        plan: Epochs, batch size and crops that the recipe has for this set.
        recipe: How to train.
        images: Number of training images.
        steps: Optimiser steps of the whole training, once it is over.
        curve: One entry per evaluation: ``epoch`` (completed ones), ``top1``, ``top5``, ``train_loss``, ``lr``.
            The loss is None where none was computed.
    """

    def __init__(
        self,
        network: nn.Module,
        training: TrainingSet,
        *,
        num_classes: int,
        lr: float | Sequence[float],
        seed: int = 0,
        teacher: nn.Module | None = None,
        stored: StoredLabels | None = None,
        make_test_loader: Callable[[], Iterable[Batch]] | None = None,
    ) -> None:
        super().__init__()
        # In this layout MobileNetV2 trains 1.5 times as fast on a CPU, other networks as fast as before.
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.recipe: Recipe = training.recipe
        self.plan = training.plan
        self.lrs = (lr,) * self.plan.stages if isinstance(lr, float | int) else tuple(lr)
        self.seed = seed
        self.images = len(training)
        self.steps = 0
        self.curve: list[dict[str, Any]] = []
        self.top1 = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self.top5 = MulticlassAccuracy(
            num_classes, top_k=min(5, num_classes), average="micro", validate_args=False
        )
        self._set = training
        self._stored = stored
        self._soft: dict[str, Tensor] = {}
        self._targets = torch.empty(0)
        self._teacher = [] if teacher is None else [teacher]  # a list hides it from nn.Module
        self._make_test_loader = make_test_loader
        self._test_batches: CachedBatches | None = None
        self._positions: EpochPositions | None = None
        self._draws: Draws
        self._loss_sum: Tensor | None = None
        self._batches = 0
        self._resumed_in: int | None = None
        self._sound = torch.ones((), dtype=torch.bool)  # whether logits of this test are finite

    def forward(self, images: Tensor) -> Tensor:
        """Classify images, float ``(n, 3, h, w)`` as networks take them: float32 logits ``(n, C)``."""
        parameter = next(self.network.parameters(), None)
        if parameter is not None:
            images = images.to(parameter.dtype)
        logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def on_fit_start(self) -> None:
        """Put what training reads on the device; seed dropout and the like, differently on every rank."""
        self._set = self._set.to(self.device)
        self._targets = self._set.target_values().to(self.device)
        for teacher in self._teacher:
            teacher.eval().requires_grad_(False).to(self.device)
        torch.manual_seed(derive_seed(self.seed, "train", self.global_rank))

    def on_train_start(self) -> None:
        """Draw what an epoch needs where the training goes on: Lightning may take it for the middle of one."""
        if self._resumed_in is None:
            return
        if self._resumed_in != self.current_epoch:
            self._loss_sum, self._batches = None, 0
        self._begin_epoch()
        self._log_again()

    def _log_again(self) -> None:
        """Give loggers, which begin anew, what was logged before."""
        for entry in self.curve:
            metrics = {key: entry[key] for key in ("train_loss", "top1", "top5")}
            known = {key: value for key, value in metrics.items() if value is not None}
            last_step = entry["epoch"] * self.trainer.num_training_batches - 1
            for logger in self.trainer.loggers:
                logger.log_metrics({**known, "epoch": entry["epoch"] - 1}, step=int(last_step))

    def train_dataloader(self) -> EpochPositions:
        """Return batches of positions in the distilled set."""
        # One box or share a batch: the batches of stored labels are those that they were made under.
        together = self._stored is not None and self.recipe.mixes_by_batch
        members = self._set.of_stage(self.plan.stage_of(self.current_epoch))
        self._positions = EpochPositions(
            len(self._set) if members is None else len(members),
            self.plan.batch_size,
            seed=self.recipe.label_seed if together else self.seed,
            world_size=self.trainer.world_size,
            members=members,
        )
        self._positions.device = self.device
        self._positions.epoch = self.current_epoch
        return self._positions

    def val_dataloader(self) -> Iterable[Batch]:
        """Return the real test set; every image exactly once over all ranks."""
        if self._make_test_loader is None:
            return []
        if self._test_batches is None:
            self._test_batches = CachedBatches(
                self._make_test_loader, self.device, cache_budget(self.device)
            )
        return self._test_batches

    def on_validation_epoch_start(self) -> None:
        """Test one network: without synchronised batch normalisation ranks hold statistics of their own."""
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)
        if self.trainer.world_size > 1 and dist.is_initialized():
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)

    def on_train_epoch_start(self) -> None:
        """Draw the order and the augmentation of this epoch."""
        self._begin_epoch()
        self._loss_sum, self._batches = None, 0

    def _begin_epoch(self) -> None:
        """Do what follows from the number of the epoch alone."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self._lr_of(self.current_epoch)
        if self._positions is not None:
            self._positions.epoch = self.current_epoch
        # Stored labels belong to the augmentation that they were made under.
        seed = self.seed if self._stored is None else self.recipe.label_seed
        draws = self._set.draw(seed, self.current_epoch)
        if self._stored is not None:
            soft = self._stored.epoch(self.current_epoch)
            self._soft = {name: part.to(self.device) for name, part in soft.items()}
        self._draws = draws.to(self.device)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Compute the weighted loss of this rank's share of a batch of positions, int64 ``(b,)``."""
        world_size = self.trainer.world_size
        weights = self.sample_weights(batch)
        share = slice(self.global_rank, None, world_size)
        parts = statistics_parts(self.network, len(batch), self.recipe.bn_batch, world_size)
        losses = self.sample_losses(batch, share, parts)
        # DDP averages gradients over ranks; times their number it sums the shares of the batch.
        loss = world_size * weighted_mean(losses, weights[share], self.recipe.reduction, weights)
        detached = loss.detach()
        self._loss_sum = detached if self._loss_sum is None else self._loss_sum + detached
        self._batches += 1
        return loss

    def sample_weights(self, positions: Tensor) -> Tensor:
        """Return the weights of augmented images, float32 ``(b,)``."""
        if self.recipe.weights == "sampling":
            return torch.ones(len(positions), device=positions.device)
        weights = self._set.decoded.weights[positions]
        if self._draws.partners is None or self.recipe.weight_under_cutmix == "base":
            return weights
        partner_weights = self._set.decoded.weights[self._draws.partners[positions]]
        return mix_weights(weights, partner_weights, self._draws.lam[positions])

    def sample_losses(self, batch: Tensor, share: slice = slice(None), parts: int = 1) -> Tensor:
        """Augment images, label them and compute the student's loss for each.

        Args:
            batch: int64 ``(b,)``, positions in the set.
            share: Which of them this rank trains on.
            parts: In how many the student takes them, each with batch statistics of its own.

        Returns:
            float32, one for each image of the share.
        """
        with without_autocast():
            images = self._set.images(batch[share], self._draws)
        logits = torch.cat([self(part) for part in images.tensor_split(parts)])
        with without_autocast():
            return self._losses(logits, images, batch, share)

    def _losses(self, logits: Tensor, images: Tensor, batch: Tensor, share: slice) -> Tensor:
        positions = batch[share]
        draws, lam = self._draws, self._draws.lam[positions]
        images_of = draws.images_of(positions)
        mixed_in = None if draws.partners is None else draws.images_of(draws.partners[positions])
        if self.recipe.labels == "hard":
            return self._hard_losses(logits, images_of, mixed_in, lam)
        if self.recipe.labels == "set":
            losses = self._soft_losses(logits, self._targets[images_of])
            if mixed_in is None:
                return losses
            others = self._soft_losses(logits, self._targets[mixed_in])
            return lam * losses + (1 - lam) * others
        if self.recipe.teacher_mode == "train":
            return self._soft_losses(logits, self._batch_logits(images, batch, share))
        return self._soft_losses(logits, self.teacher_logits(images, positions))

    def _batch_logits(self, images: Tensor, batch: Tensor, share: slice) -> Tensor:
        """Return the teacher's logits for a share, by statistics of the whole batch, the same on any number of ranks."""
        if len(images) < len(batch):
            images = self._set.images(batch, self._draws)
        with batch_statistics(self._teacher[0]):
            return self.teacher_logits(images, batch)[share]

    def _hard_losses(
        self, logits: Tensor, positions: Tensor, partners: Tensor | None, lam: Tensor
    ) -> Tensor:
        labels = self._set.decoded.labels
        assert labels is not None  # checked before the training
        if partners is None:
            return hard_cross_entropy(logits, labels[positions])
        return hard_cross_entropy(logits, labels[positions], labels[partners], lam)

    def _soft_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        recipe = self.recipe
        if recipe.loss == "mse":
            return squared_error(logits, targets)
        soft = soft_kl if recipe.loss == "kl" else soft_cross_entropy
        return soft(logits, targets, recipe.temperature, recipe.scale_t2)

    @torch.no_grad()
    def teacher_logits(self, images: Tensor, positions: Tensor) -> Tensor:
        """Return the teacher's logits for augmented images, float32 ``(b, C)``: stored ones, or made now."""
        if self._stored is not None:
            labels = {name: part[positions] for name, part in self._soft.items()}
            return expand(labels, self._stored.num_classes)
        logits: Tensor = self._teacher[0](self._set.for_teacher(images))
        return logits

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what the student gets right."""
        images, labels = batch
        with without_autocast():
            images = self._set.real_images(images)
        logits = self(images)
        self._sound &= torch.isfinite(logits).all()
        self.top1.update(logits, labels)
        self.top5.update(logits, labels)

    def test_dataloader(self) -> Iterable[Batch]:
        """Return the real test set, as :meth:`val_dataloader`: there is no other validation."""
        return self.val_dataloader()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what the student gets right."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_start(self) -> None:
        """See :meth:`on_validation_epoch_start`."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """Log the accuracies; the curve belongs to the training."""
        self.log_dict({"top1": self.top1, "top5": self.top5})

    def on_validation_epoch_end(self) -> None:
        """Add an entry to the curve and log it."""
        # Within a fit the current epoch is not counted yet.
        epoch = self.trainer.current_epoch + (self.trainer.state.fn == TrainerFn.FITTING)
        self._check_logits(epoch)
        loss = None
        if self._loss_sum is not None:
            mean = self.trainer.strategy.reduce(self._loss_sum / self._batches, reduce_op="mean")
            loss = float(mean)
            self.log("train_loss", loss, rank_zero_only=True)
        self.log_dict({"top1": self.top1, "top5": self.top5})
        self.curve.append(
            {
                "epoch": epoch,
                "top1": float(self.top1.compute()),
                "top5": float(self.top5.compute()),
                "train_loss": loss,
                "lr": self._lr_of(max(epoch - 1, 0)),
            }
        )

    def _check_logits(self, epoch: int) -> None:
        """Refuse to count guesses of a network that gives NaN: an arg max of it is some class all the same."""
        if self.trainer.strategy.reduce_boolean_decision(not self._sound, all=False):
            raise DivergedError(
                f"The student diverged: after epoch {epoch} its logits for real test images are not finite (NaN or "
                f"infinite). {self.mend}"
            )

    @property
    def mend(self) -> str:
        """What to try where the training diverges."""
        return f"Lower the learning rate (now {self.lrs[0]:g}: recipe.overrides.lr, or the student's lr)."

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the recipe's optimiser; its rate is set once an epoch."""
        recipe = self.recipe
        named = recipe.weight_decay_on == "weights"
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                decays = parameter.ndim >= 2 and ("weight" in name or not named)
                (matrices if decays else others).append(parameter)
        decay_others = recipe.weight_decay if recipe.weight_decay_on == "all" else 0.0
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": decay_others},
        ]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adamw":
            fused = self.device.type == "cuda"  # one kernel for all tensors
            optimizer = torch.optim.AdamW(groups, lr=self.lrs[0], betas=recipe.betas, fused=fused)
        else:
            optimizer = torch.optim.SGD(groups, lr=self.lrs[0], momentum=recipe.momentum)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curve, and the losses of the epoch so far."""
        checkpoint["curve"] = self.curve
        losses = {"epoch": self.current_epoch, "sum": self._loss_sum, "batches": self._batches}
        checkpoint["losses"] = losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on behind them."""
        self.curve = checkpoint["curve"]
        losses = checkpoint["losses"]
        self._loss_sum, self._batches = losses["sum"], losses["batches"]
        if self._loss_sum is not None:
            self._loss_sum = self._loss_sum.to(self.device)
        self._resumed_in = losses["epoch"]

    def _lr_of(self, epoch: int) -> float:
        """Return the rate of an epoch; the schedule begins anew with each stage."""
        stage, epochs = self.plan.stage_of(epoch), self.plan.stage_epochs
        factor = self.recipe.lr_factor(epoch - stage * epochs, epochs, self.plan.warmup)
        return self.lrs[stage] * factor
