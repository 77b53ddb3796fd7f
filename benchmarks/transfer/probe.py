"""A linear classifier on features that stay as they are."""

import torch
import torch.nn.functional as F
from torch import Tensor

_STEPS = 200  # of L-BFGS, at most
_TOLERANCE = 1e-6  # of the gradient, at which it stops
_SPREAD = 1e-6  # a feature that varies less is left at 0


def probe_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int
) -> float:
    r"""Fit a logistic regression on standardised features by L-BFGS, and test it.

    .. math::
        \min_{W, b} \; \frac{1}{n} \sum_i \mathrm{CE}(W f_i + b, y_i) + \frac{1}{2 n} \|W\|^2

    which is what scikit-learn's ``LogisticRegression`` minimises by default, here on any device.

    Args:
        train: Features, float ``(n, d)``, and labels, int64 ``(n,)``.
        test: Likewise.
        num_classes: Number of classes.

    Returns:
        Share of test images classified correctly.

    Example:
        >>> features, labels = torch.tensor([[0.0], [0.1], [0.9], [1.0]]), torch.tensor([0, 0, 1, 1])
        >>> probe_accuracy((features, labels), (features, labels), 2)
        1.0
    """
    features, labels = train
    mean = features.mean(dim=0)
    spread = (features - mean).square().mean(dim=0).sqrt()
    spread = torch.where(spread > _SPREAD, spread, torch.inf)
    weight, bias = fit_logistic((features - mean) / spread, labels, num_classes)
    answers = ((test[0] - mean) / spread) @ weight.T + bias
    return float((answers.argmax(dim=1) == test[1]).float().mean())


def fit_logistic(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Minimise the regularised cross-entropy of :func:`probe_accuracy`.

    Args:
        features: Float ``(n, d)``.
        labels: int64 ``(n,)``.
        num_classes: Number of classes.

    Returns:
        Weights ``(C, d)`` and biases ``(C,)``.
    """
    weight = features.new_zeros(num_classes, features.shape[1]).requires_grad_()
    bias = features.new_zeros(num_classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        entropy = F.cross_entropy(features @ weight.T + bias, labels)
        value = entropy + weight.square().sum() / (2 * len(labels))
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach(), bias.detach()
