r"""Distances between the features of two batches of one class, for methods that match distributions.

Each is a function of two matrices of features, ``(m, d)`` and ``(n, d)``, so that a method takes any of them.
"""

from collections.abc import Callable

import torch
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


def relative_error(features: Tensor, wanted: Tensor) -> Tensor:
    r"""Return the squared error of features, as a share of their squared length, on average over images.

    .. math:: \frac{1}{n} \sum_i \frac{\| \varphi(\hat x_i) - \varphi(x_i) \|^2}{\| \varphi(x_i) \|^2}

    It does not depend on the network's scale or width. As a term of an autoencoder's loss: J. Johnson, A. Alahi and
    L. Fei-Fei, *Perceptual Losses for Real-Time Style Transfer and Super-Resolution*, ECCV 2016, who divide by the
    number of values instead.

    Args:
        features: Float ``(n, d)``, of what was reconstructed.
        wanted: Float ``(n, d)``, of the originals.

    Returns:
        A scalar, float32; 0 where they are equal, 1 where ``features`` are 0.

    Example:
        >>> import torch
        >>> relative_error(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 1.0]]))
        tensor(0.3200)
    """
    errors = (features.float() - wanted.float()).square().sum(1)
    sizes = wanted.float().square().sum(1).clamp_min(torch.finfo(torch.float32).eps)
    return (errors / sizes).mean()
