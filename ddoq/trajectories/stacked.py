"""The training of several experts at once: their weights are stacked, and one call differentiates all of them.

A GPU that a single small network leaves idle does so in little more than the time of one. Each expert draws what it would
draw alone; only the order in which floats are added differs, so that bits do.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, replace_all_batch_norm_modules_, vmap

from ddoq.objectives.functional import Weights, descend
from ddoq.trajectories.recording import ExpertTraining, TrainingImages, augmented, check_row
from ddoq.trajectories.steps import disturbed_weights, flat_direction

# From stacked weights, inputs (k, b, 3, h, w) and labels (k, b) to stacked gradients and losses (k,).
Differentiate = Callable[[Mapping[str, Tensor], Tensor, Tensor], tuple[Weights, Tensor]]


def record_stacked(
    network: nn.Module,
    starts: Sequence[Mapping[str, Tensor]],
    images: TrainingImages,
    training: ExpertTraining,
    numbers: Sequence[int],
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[tuple[Tensor, list[float]]]:
    """Train experts side by side; see :func:`ddoq.trajectories.recording.record_expert`.

    Args:
        network: The architecture, on the device. It is left as it was.
        starts: The weights that each starts from, by name.
        images: What they learn from.
        training: How.
        numbers: Of the experts; they key the draws.
        after_epoch: Called with the number of epochs that are done, and the mean loss over experts of the last.

    Returns:
        For each expert weights at the start and after every epoch, float32 ``(epochs + 1, p)`` on the CPU, and the mean
        loss of each epoch.

    Raises:
        DivergedError: If weights of an expert are not finite after an epoch.
    """
    differentiate = _differentiate(network)
    weights = {name: torch.stack([start[name].detach() for start in starts]) for name in starts[0]}
    rows, losses = [_rows(weights)], []
    for epoch in range(training.epochs):
        weights, loss = _train_epoch(differentiate, weights, images, training, numbers, epoch)
        row = _rows(weights)
        for number, of_one in zip(numbers, row, strict=True):
            check_row(of_one, number, epoch, training)
        rows.append(row)
        losses.append(loss)
        after_epoch(epoch + 1, float(loss.mean()))
    kept, told = torch.stack(rows, 1), torch.stack(losses, 1)
    return [(kept[place], told[place].tolist()) for place in range(len(numbers))]


def _differentiate(network: nn.Module) -> Differentiate:
    # Statistics over batches, which students never use, could not be kept for several networks in one.
    stateless = replace_all_batch_norm_modules_(copy.deepcopy(network))

    def loss_of(weights: Mapping[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(stateless, dict(weights), (inputs,)), labels)

    differentiate: Differentiate = vmap(grad_and_value(loss_of))
    return differentiate


def _train_epoch(
    differentiate: Differentiate,
    weights: Weights,
    images: TrainingImages,
    training: ExpertTraining,
    numbers: Sequence[int],
    epoch: int,
) -> tuple[Weights, Tensor]:
    """Take the steps of an epoch; return the weights and the mean loss of each expert, on the CPU."""
    orders = [
        torch.randperm(len(images), generator=training.generator("order", number, epoch))
        for number in numbers
    ]
    batches = zip(*(order.split(training.batch_size) for order in orders), strict=True)
    total = torch.zeros(len(numbers))
    for step, positions in enumerate(batches):
        drawn = [images.batch(of_one) for of_one in positions]
        inputs = torch.stack(
            [
                augmented(of_one, training, (number, epoch), step)
                for number, (of_one, _) in zip(numbers, drawn, strict=True)
            ]
        )
        labels = torch.stack([of_one for _, of_one in drawn])
        weights, loss = _step(differentiate, weights, inputs, labels, training)
        total = total.to(loss.device) + loss * inputs.shape[1]
    return weights, total.cpu() / len(images)


def _step(
    differentiate: Differentiate,
    weights: Weights,
    inputs: Tensor,
    labels: Tensor,
    training: ExpertTraining,
) -> tuple[Weights, Tensor]:
    """Take the step of :mod:`ddoq.trajectories.steps` for every expert."""
    clean, loss = differentiate(weights, inputs, labels)
    direction = clean
    if training.rho or training.alpha:
        disturbed = vmap(lambda p, g: disturbed_weights(p, g, training.rho))(weights, clean)
        sharp, _ = differentiate(disturbed, inputs, labels)
        direction = vmap(lambda g, s: flat_direction(g, s, training.alpha))(clean, sharp)
    return descend(weights, direction, training.lr), loss


def _rows(weights: Weights) -> Tensor:
    """Write the weights of each expert into a vector, float ``(k, p)`` on the CPU."""
    return torch.cat([weight.flatten(1) for weight in weights.values()], 1).cpu()
