r"""Distances between the features of two batches of one class, for methods that match distributions.

Each is a function of two matrices of features, ``(m, d)`` and ``(n, d)``, so that a method takes any of them.
"""

from collections.abc import Callable

from torch import Tensor

Statistic = Callable[[Tensor, Tensor], Tensor]


def mean_difference(real: Tensor, synthetic: Tensor) -> Tensor:
    r"""Return the squared distance of the two means.

    .. math::
        \Bigl\| \frac{1}{m} \sum_i \varphi(x_i) - \frac{1}{n} \sum_j \varphi(s_j) \Bigr\|^2

    Source: B. Zhao and H. Bilen, *Dataset Condensation with Distribution Matching*, WACV 2023, equation 4.

    Args:
        real: Float ``(m, d)``.
        synthetic: Float ``(n, d)``.

    Returns:
        A scalar.

    Example:
        >>> import torch
        >>> mean_difference(torch.tensor([[0.0, 0.0], [2.0, 4.0]]), torch.tensor([[1.0, 0.0]]))
        tensor(4.)
    """
    return (real.mean(dim=0) - synthetic.mean(dim=0)).square().sum()
