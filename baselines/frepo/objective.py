"""What FRePo minimises, and the labels that it starts from: functions of tensors."""

import math

import torch
from torch import Tensor, nn

from ddoq.networks import penultimate
from ddoq.objectives.kernel_regression import centred_one_hot, predict, regression_loss


def regression_gap(
    network: nn.Module,
    real: Tensor,
    answers: Tensor,
    images: Tensor,
    targets: Tensor,
    ridge: float,
    *,
    flip: bool,
) -> Tensor:
    """Return the loss of predictions for real images, whose features are not differentiated.

    Args:
        network: A classifier; features are what its last layer sees.
        real: Float ``(m, 3, h, w)``.
        answers: What they shall be predicted as, float ``(m, C)``.
        images: Distilled, float ``(n, 3, h, w)``.
        targets: Their labels, float ``(n, C)``.
        ridge: See :func:`ddoq.objectives.kernel_regression.predict`.
        flip: Whether mirrored distilled images, with the same labels, join them.

    Returns:
        A scalar.

    Raises:
        NotFiniteError: If the regression has no unique solution.
    """
    if flip:
        images, targets = torch.cat([images, images.flip(-1)]), torch.cat([targets, targets])
    with torch.no_grad():
        features = penultimate(network, real)
    predictions = predict(features, penultimate(network, images), targets, ridge=ridge)
    return regression_loss(predictions, answers)


def label_scale(num_classes: int) -> float:
    """Return what centred one-hot labels are divided by: 1 for ten classes, more for more of them."""
    return math.sqrt(num_classes / 10)


def first_labels(classes: Tensor, num_classes: int) -> Tensor:
    """Return the labels that learning starts from: one-hot less 1/C, divided by the root of C/10.

    Args:
        classes: int64 ``(n,)``.
        num_classes: :math:`C`.

    Returns:
        float32 ``(n, C)``.

    Example:
        >>> first_labels(torch.tensor([0]), 40)[0, :2]
        tensor([ 0.4875, -0.0125])
    """
    return centred_one_hot(classes, num_classes) / label_scale(num_classes)
