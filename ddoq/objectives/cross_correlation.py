r"""The loss of Barlow Twins: two views of an image answer alike, and no two numbers of an answer say the same.

.. math::
    \mathcal{L} = \sum_i (1 - C_{ii})^2 + \lambda \sum_i \sum_{j \ne i} C_{ij}^2

with the cross-correlation :math:`C` of the answers to both views over a batch.

Source: J. Zbontar, L. Jing, I. Misra, Y. LeCun and S. Deny, *Barlow Twins: Self-Supervised Learning via Redundancy
Reduction*, ICML 2021.
"""

from torch import Tensor

# Added to variances, as batch norm does it: an answer that is the same for all images correlates with nothing.
_EPSILON = 1e-5


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlate the numbers of two answers over a batch.

    Args:
        first: To one view of each image, float ``(n, d)``.
        second: To the other, float ``(n, d)``.

    Returns:
        Float ``(d, d)``, in [-1, 1]; gradients flow.

    Example:
        >>> import torch
        >>> answers = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        >>> cross_correlation(answers, answers).round(decimals=3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return _standardised(first).T @ _standardised(second) / len(first)


def redundancy_loss(correlation: Tensor, weight: float) -> Tensor:
    r"""Return how far a cross-correlation is from the identity.

    Args:
        correlation: Float ``(d, d)``.
        weight: :math:`\lambda`, of what is off the diagonal.

    Returns:
        A scalar, 0 for the identity alone.

    Example:
        >>> import torch
        >>> redundancy_loss(torch.tensor([[0.5, 1.0], [0.0, 1.0]]), weight=0.1)  # 0.5^2 + 0.1 * 1^2
        tensor(0.3500)
    """
    diagonal = correlation.diagonal()
    squares = correlation.square()
    off = squares.sum() - squares.diagonal().sum()
    return (1 - diagonal).square().sum() + weight * off


def _standardised(answers: Tensor) -> Tensor:
    centred = answers - answers.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + _EPSILON).sqrt()
