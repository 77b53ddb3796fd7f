"""The training of one expert on real images, with its weights after every epoch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.augmentation.siamese import augment_siamese, draw_siamese_batch
from ddoq.data.splits import ImageSplit
from ddoq.decoding.transform import Transform
from ddoq.finite import DivergedError
from ddoq.images import to_float
from ddoq.objectives.functional import Weights, flatten_weights, logits_of, weights_of
from ddoq.seeding import generator_for
from ddoq.teachers.batches import fits, load_split
from ddoq.trajectories.steps import Loss, flat_step, plain_step


@dataclass(frozen=True)
class ExpertTraining:
    """How experts are trained.

    Attributes:
        epochs: Passes over the training split.
        lr: Step size of gradient descent, without momentum and without decay.
        batch_size: Images a step; the last batch of an epoch may be smaller.
        kinds: Of Siamese augmentation; empty for none.
        rho: Radius of the sharpness-aware step, relative to the weights.
        alpha: Share of the orthogonal part that it takes away.
        seed: Decides orders and augmentation; with the expert's number.
    """

    epochs: int
    lr: float
    batch_size: int
    kinds: tuple[str, ...]
    rho: float
    alpha: float
    seed: int

    def generator(self, *keys: int | str) -> torch.Generator:
        """Make the generator of one draw."""
        return generator_for(self.seed, "experts", *keys)


class TrainingImages:
    """The training split on a device where it fits, otherwise read batch by batch; normalised as it is drawn.

    Args:
        split: The images, uint8.
        transform: To the space that networks see, on the device.
        device: Where batches are wanted.
    """

    def __init__(self, split: ImageSplit, transform: Transform, device: torch.device) -> None:
        self.labels = split.labels
        self._split = split
        self._transform = transform
        self.device = device
        bytes_of_one = split.load([0]).numel()
        self._resident = (
            load_split(split).to(device) if fits(len(split) * bytes_of_one, device) else None
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return images, float ``(b, 3, h, w)``, and their labels, on the device."""
        if self._resident is None:
            stored = self._split.load(positions.tolist()).to(self.device)
        else:
            stored = self._resident[positions.to(self.device)]
        return self._transform.apply(to_float(stored)), self.labels[positions].to(self.device)


def record_expert(
    network: nn.Module,
    images: TrainingImages,
    training: ExpertTraining,
    number: int,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> tuple[Tensor, list[float]]:
    """Train an expert.

    Args:
        network: With the weights to start from, on the device; see :func:`ddoq.objectives.functional.as_student`. It is
            left as it was.
        images: What it learns from.
        training: How.
        number: Of the expert; it keys the draws.
        after_epoch: Called with the number of epochs that are done, and the mean loss of the last.

    Returns:
        Weights at the start and after every epoch, float32 ``(epochs + 1, p)`` on the CPU, and the mean loss of each
        epoch.

    Raises:
        DivergedError: If weights are not finite after an epoch.
    """
    weights = weights_of(network)
    rows, losses = [flatten_weights(weights).cpu()], []
    with torch.enable_grad():
        for epoch in range(training.epochs):
            weights, loss = _train_epoch(network, weights, images, training, (number, epoch))
            row = flatten_weights(weights).cpu()
            check_row(row, number, epoch, training)
            rows.append(row)
            losses.append(loss)
            after_epoch(epoch + 1, loss)
    return torch.stack(rows), losses


def _train_epoch(
    network: nn.Module,
    weights: Weights,
    images: TrainingImages,
    training: ExpertTraining,
    keys: tuple[int, int],
) -> tuple[Weights, float]:
    """Take the steps of an epoch; return the weights and the mean loss."""
    order = torch.randperm(len(images), generator=training.generator("order", *keys))
    total: Tensor | None = None
    for step, positions in enumerate(order.split(training.batch_size)):
        inputs, labels = images.batch(positions)
        inputs = augmented(inputs, training, keys, step)
        weights, loss = _step(_loss_of(network, inputs, labels), weights, training)
        total = loss * len(inputs) if total is None else total + loss * len(inputs)
    return weights, 0.0 if total is None else float(total) / len(images)


def augmented(inputs: Tensor, training: ExpertTraining, keys: tuple[int, int], step: int) -> Tensor:
    """Augment the batch of a step.

    Args:
        inputs: Float ``(b, 3, h, w)``.
        training: With the kinds of augmentation.
        keys: The numbers of the expert and of the epoch.
        step: Its number in the epoch.

    Returns:
        Of the same shape.
    """
    if not training.kinds:
        return inputs
    height, width = inputs.shape[-2:]
    generator = training.generator("siamese", *keys, step)
    drawn = draw_siamese_batch(len(inputs), (height, width), training.kinds, generator)
    return augment_siamese(inputs, drawn.to(inputs.device))


def check_row(row: Tensor, number: int, epoch: int, training: ExpertTraining) -> None:
    """Refuse the weights of an expert that has diverged.

    Args:
        row: All weights after an epoch.
        number: Of the expert.
        epoch: Counts from 0.
        training: How it was trained.

    Raises:
        DivergedError: If some are not finite.
    """
    if not torch.isfinite(row).all():
        raise DivergedError(
            f"Expert {number} diverged in epoch {epoch + 1} of {training.epochs}: its weights are not finite (NaN or "
            "infinite). Lower the learning rate (model.init_args.experts.init_args.lr)."
        )


def _loss_of(network: nn.Module, inputs: Tensor, labels: Tensor) -> Loss:
    return lambda weights: F.cross_entropy(logits_of(network, weights, inputs), labels)


def _step(loss: Loss, weights: Weights, training: ExpertTraining) -> tuple[Weights, Tensor]:
    if training.rho == training.alpha == 0:  # the same bits in half the time
        return plain_step(loss, weights, training.lr)
    return flat_step(loss, weights, training.lr, rho=training.rho, alpha=training.alpha)
