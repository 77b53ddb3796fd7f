r"""Ridge regression in the space of a network's features, solved in closed form.

Where :math:`\Phi_s` are the features of the distilled images and :math:`Y` their targets, images with the features
:math:`\Phi_t` are predicted as

.. math::
    \Phi_t \Phi_s^\top (\Phi_s \Phi_s^\top + r I)^{-1} Y

Sources: T. Nguyen, Z. Chen and J. Lee, *Dataset Meta-Learning from Kernel Ridge-Regression*, ICLR 2021; Y. Zhou,
E. Nezhadarya and J. Ba, *Dataset Distillation using Neural Feature Regression* (FRePo), NeurIPS 2022.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.finite import NotFiniteError, is_finite

# What the ridge is a share of: the mean of the kernel's diagonal (FRePo), or the sum of it (KRR-ST).
Share = Literal["mean", "trace"]

_MEND = (
    "Raise the ridge (model.init_args.ridge), lower the learning rate (model.init_args.lr), or distil fewer images "
    "(model.ipc): without a ridge, equal images, or more images than the network has features, have no solution."
)


def check_share(share: str) -> None:
    """Refuse an unknown share.

    Raises:
        UserError: Naming those there are.
    """
    if share not in get_args(Share):
        raise UserError(f"Unknown share {share!r} of a ridge. {suggest(share, get_args(Share))}")


def with_constant(features: Tensor) -> Tensor:
    """Add a feature that is 1 everywhere, so that a regression has an intercept.

    Args:
        features: Float ``(n, d)``.

    Returns:
        Float ``(n, d + 1)``.

    Example:
        >>> with_constant(torch.tensor([[2.0], [3.0]]))
        tensor([[2., 1.],
                [3., 1.]])
    """
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


def ridge_of(kernel: Tensor, ridge: float, share: Share = "mean") -> Tensor:
    r"""Return what is added to the diagonal of a kernel.

    .. math::
        r = \lambda \, \mathrm{tr}(K) / n \text{ (mean)}, \quad r = \lambda \, \mathrm{tr}(K) \text{ (trace)}

    Args:
        kernel: Float ``(n, n)``.
        ridge: :math:`\lambda`, at least 0.
        share: What it is a share of.

    Returns:
        A scalar; gradients flow.

    Example:
        >>> kernel = torch.diag(torch.tensor([1.0, 3.0]))
        >>> ridge_of(kernel, 0.5).item(), ridge_of(kernel, 0.5, "trace").item()
        (1.0, 2.0)
    """
    check_share(share)
    diagonal = kernel.diagonal()
    return ridge * (diagonal.mean() if share == "mean" else diagonal.sum())


def predict(
    features: Tensor,
    support: Tensor,
    targets: Tensor,
    *,
    ridge: float,
    share: Share = "mean",
    constant: bool = False,
) -> Tensor:
    """Predict by ridge regression on a support; computed in float64, and differentiable by all three tensors.

    Args:
        features: Of what is predicted, float ``(m, d)``.
        support: Features of the distilled images, float ``(n, d)``.
        targets: Of the distilled images, float ``(n, k)``.
        ridge: At least 0, see :func:`ridge_of`.
        share: What the ridge is a share of.
        constant: Whether all features get a constant beside them, see :func:`with_constant`.

    Returns:
        float64 ``(m, k)``.

    Raises:
        NotFiniteError: If a feature or a target is not finite, or the system has no unique solution.

    Example:
        >>> support, targets = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [3.0]])
        >>> predict(torch.tensor([[2.0]]), support, targets, ridge=1e-12, constant=True).round(decimals=4)
        tensor([[5.]], dtype=torch.float64)
    """
    if constant:
        features, support = with_constant(features), with_constant(support)
    points = support.double()
    kernel = points @ points.T
    return features.double() @ (points.T @ solve(kernel, targets.double(), ridge, share))


def solve(kernel: Tensor, targets: Tensor, ridge: float, share: Share = "mean") -> Tensor:
    """Solve a regularised system by Cholesky decomposition, in the dtype of the kernel.

    Args:
        kernel: Positive semidefinite, float ``(n, n)``; float64, unless its condition allows less.
        targets: Of the same dtype, ``(n, k)``.
        ridge: At least 0, see :func:`ridge_of`.
        share: What the ridge is a share of.

    Returns:
        Coefficients ``(n, k)``.

    Raises:
        NotFiniteError: If a number is not finite, or the system has no unique solution within the dtype.

    Example:
        >>> solve(2 * torch.eye(2), torch.ones(2, 1), ridge=0.0).flatten()
        tensor([0.5000, 0.5000])
    """
    abstract = kernel.is_meta  # of a plan: there are no values to look at
    if not abstract and not (is_finite(kernel) and is_finite(targets)):
        raise NotFiniteError(
            "Features or targets of the distilled images are not finite (NaN or infinite), so that no regression on "
            f"them exists. {_MEND}"
        )
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    system = kernel + ridge_of(kernel, ridge, share) * identity
    factor, info = torch.linalg.cholesky_ex(system)
    # A singular system can survive the decomposition by rounding: its smallest pivot is then as small as that.
    rounding = len(system) * torch.finfo(system.dtype).eps * system.diagonal().max()
    regular = (info == 0) & (factor.diagonal().square().min() > rounding)
    if not abstract and not bool(regular):
        raise NotFiniteError(
            f"The kernel of the {len(kernel)} distilled images is singular, so that the regression on them has no unique "
            f"solution. {_MEND}"
        )
    return torch.cholesky_solve(targets, factor)


def centred_one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Return one-hot labels less their mean over classes.

    Args:
        labels: int64 ``(n,)``.
        num_classes: :math:`C`.

    Returns:
        float32 ``(n, C)``: 1 - 1/C at the class, -1/C elsewhere.

    Example:
        >>> centred_one_hot(torch.tensor([1]), 4)
        tensor([[-0.2500,  0.7500, -0.2500, -0.2500]])
    """
    return torch.nn.functional.one_hot(labels, num_classes).float() - 1 / num_classes


def regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    r"""Return half the squared error, summed over classes and averaged over images.

    .. math::
        \frac{1}{m} \sum_i \frac{1}{2} \sum_c (p_{ic} - t_{ic})^2

    Args:
        predictions: Float ``(m, C)``.
        targets: Float ``(m, C)``.

    Returns:
        A scalar.

    Example:
        >>> regression_loss(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor(5.)
    """
    return 0.5 * (predictions - targets).square().sum(dim=1).mean()


def margin_loss(targets: Tensor) -> Tensor:
    r"""Return how much the learned labels lack of a clear class: it rewards a margin of up to 1/C.

    .. math::
        - \frac{1}{n} \sum_j \min \bigl( y_{j,(1)} - y_{j,(2)}, \, 1/C \bigr)

    with the largest and the second largest number of each label.

    Args:
        targets: Float ``(n, C)``, of at least two classes.

    Returns:
        A scalar in [-1/C, 0].

    Raises:
        UserError: If there are not two classes to compare.

    Example:
        >>> margin_loss(torch.tensor([[0.1, 0.0], [0.9, -0.9]])).item()  # margins of 0.1 and, at most, 1/2
        -0.30000001192092896
    """
    if targets.ndim != 2 or targets.shape[1] < 2:
        raise UserError(
            f"A margin needs labels of at least two classes, not {tuple(targets.shape)}: take margin: 0."
        )
    best = targets.topk(2, dim=1).values
    return -(best[:, 0] - best[:, 1]).clamp(max=1 / targets.shape[1]).mean()
