r"""The maximum mean discrepancy (MMD) of two batches of features, under several kernels.

.. math::
    \mathrm{MMD}^2 = \frac{1}{m^2} \sum_{i,j} k(r_i, r_j) - \frac{2}{mn} \sum_{i,j} k(r_i, s_j)
    + \frac{1}{n^2} \sum_{i,j} k(s_i, s_j)

is the biased estimator: pairs of a point with itself count, so that it is the squared distance of two means in the space
of the kernel, hence never below 0, and 0 for equal batches.

Sources: A. Gretton et al., *A Kernel Two-Sample Test*, JMLR 2012; H. Zhang et al., *M3D: Dataset Condensation by
Minimizing Maximum Mean Discrepancy*, AAAI 2024.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.objectives.features import Statistic, mean_difference

# From points float (n, d) to the values of all pairs, (n, n); it may look at all points to choose a bandwidth.
Kernel = Callable[[Tensor], Tensor]

_SCALES = (-2, -1, 0, 1, 2)  # of the mixture, as powers of 2


def squared_distances(points: Tensor) -> Tensor:
    """Return the squared distances of all pairs.

    Args:
        points: Float ``(n, d)``.

    Returns:
        Float ``(n, n)``; none is below 0, and those of a point to itself are 0.

    Example:
        >>> squared_distances(torch.tensor([[0.0], [3.0]]))
        tensor([[0., 9.],
                [9., 0.]])
    """
    centred = points - points.mean(dim=0).detach()  # smaller numbers round less
    squares = centred.square().sum(dim=1)
    distances = (squares[:, None] + squares - 2 * centred @ centred.T).clamp(min=0)
    same = torch.eye(len(points), dtype=torch.bool, device=points.device)
    return distances.masked_fill(same, 0)


def gaussian_mixture(points: Tensor) -> Tensor:
    r"""Add up five Gaussian kernels whose bandwidths follow from the points.

    .. math::
        k(x, y) = \sum_{a=-2}^{2} \exp \Bigl( - \frac{\|x - y\|^2}{2^a b} \Bigr), \quad
        b = \frac{1}{n^2 - n} \sum_{i \ne j} \|z_i - z_j\|^2

    No gradient flows through :math:`b`.

    Args:
        points: Float ``(n, d)``: both batches.

    Returns:
        Float ``(n, n)``, values up to 5.

    Example:
        >>> gaussian_mixture(torch.tensor([[0.0], [3.0]]))[0]
        tensor([5.0000, 1.9069])
    """
    distances = squared_distances(points)
    n = len(points)
    bandwidth = distances.detach().sum() / max(n * n - n, 1)
    # Where all points are equal every kernel is 1, whatever the bandwidth.
    bandwidth = torch.where(bandwidth > 0, bandwidth, torch.ones_like(bandwidth))
    kernels = [torch.exp(-distances / (2.0**scale * bandwidth)) for scale in _SCALES]
    return torch.stack(kernels).sum(dim=0)


def linear(points: Tensor) -> Tensor:
    """Return the inner products of all pairs, ``(n, n)``: under them the MMD is the distance of the means."""
    return points @ points.T


def polynomial(points: Tensor) -> Tensor:
    """Return the squares of the inner products plus one, ``(n, n)``: they see means and second moments."""
    return (points @ points.T + 1).square()


def mmd(real: Tensor, synthetic: Tensor, kernel: Kernel = gaussian_mixture) -> Tensor:
    """Return the squared maximum mean discrepancy of two batches, by the biased estimator.

    Args:
        real: Float ``(m, d)``.
        synthetic: Float ``(n, d)``.
        kernel: Of all pairs of both.

    Returns:
        A scalar, at least 0 up to rounding.

    Example:
        >>> points = torch.tensor([[0.0], [3.0]])
        >>> mmd(points, points.flip(0)).item()
        0.0
        >>> round(mmd(points[:1], points[1:]).item(), 4)  # 5 + 5 - 2 * 1.9069
        6.1863
    """
    values = kernel(torch.cat([real, synthetic]))
    m = len(real)
    return values[:m, :m].mean() - 2 * values[:m, m:].mean() + values[m:, m:].mean()


# Under the linear kernel all pairs need not be looked at, and large products do not cancel.
STATISTICS: dict[str, Statistic] = {
    "gaussian-mixture": partial(mmd, kernel=gaussian_mixture),
    "linear": mean_difference,
    "polynomial": partial(mmd, kernel=polynomial),
}


def discrepancy(kernel: str) -> Statistic:
    """Look up the squared MMD under a kernel.

    Args:
        kernel: A key of ``STATISTICS``.

    Raises:
        UserError: If there is none of that name.
    """
    if kernel not in STATISTICS:
        raise UserError(f"Unknown kernel {kernel!r}. {suggest(kernel, STATISTICS)}")
    return STATISTICS[kernel]
