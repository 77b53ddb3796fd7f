"""Ridge leverage scores: how much single points decide a ridge regression on all of them."""

import torch
from torch import Tensor

from ddoq.bounds import check_number
from ddoq.selection.features import check_features


def leverage_scores(features: Tensor, ridge: float) -> Tensor:
    r"""Return the diagonal of the hat matrix of a ridge regression.

    .. math::
        \ell_i = \bigl[K (K + \lambda I)^{-1}\bigr]_{ii}, \quad K = F F^\top, \quad \lambda = \frac{r}{n} \operatorname{tr} K

    They lie in [0, 1], and their sum is the effective dimension, that of the features where the ridge is small. The smaller
    of n and d decides what it takes, since :math:`K (K + \lambda I)^{-1} = F (F^\top F + \lambda I)^{-1} F^\top`.

    Source: A. Alaoui and M. W. Mahoney, *Fast Randomized Kernel Ridge Regression with Statistical Guarantees*, NeurIPS 2015.

    Args:
        features: Float ``(n, d)``, on any device.
        ridge: :math:`r`, above 0: the regulariser as a share of the mean eigenvalue.

    Returns:
        Float64 ``(n,)``, on the same device; zeros where all features are zero.

    Raises:
        UserError: If features are no finite float matrix, or the ridge is not above 0.

    Example:
        >>> leverage_scores(torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), 1e-9)  # two share a direction
        tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    check_number("ridge", ridge, above=0)
    points = check_features(features, 1)
    count, width = points.shape
    penalty = ridge * points.square().sum() / count
    if penalty == 0:
        return torch.zeros(count, dtype=points.dtype, device=points.device)
    wide = width > count
    gram = points @ points.T if wide else points.T @ points
    factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram)).to(gram))
    if wide:
        return (gram * torch.cholesky_inverse(factor)).sum(dim=1)
    solved: Tensor = torch.linalg.solve_triangular(factor, points.T, upper=False)
    return solved.square().sum(dim=0)


def effective_dimension(features: Tensor, ridge: float) -> float:
    r"""Return :math:`\operatorname{tr} K (K + \lambda I)^{-1}` from the eigenvalues of the kernel.

    Args:
        features: Float ``(n, d)``.
        ridge: See :func:`leverage_scores`.

    Example:
        >>> round(effective_dimension(torch.eye(4), 1e-9), 6)
        4.0
    """
    check_number("ridge", ridge, above=0)
    points = check_features(features, 1)
    eigenvalues = torch.linalg.eigvalsh(points @ points.T).clamp(min=0)
    penalty = ridge * eigenvalues.mean()
    return float((eigenvalues / (eigenvalues + penalty)).sum()) if penalty > 0 else 0.0
