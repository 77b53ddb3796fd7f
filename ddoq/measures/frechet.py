r"""The Frechet distance between Gaussians that are fitted to two sets of features.

.. math::
    d^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

It is the square that is commonly reported. Source: D. C. Dowson and B. V. Landau, *The Fréchet distance between
multivariate normal distributions*, Journal of Multivariate Analysis 12 (1982); as a measure of generated images M. Heusel
et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, NeurIPS 2017.

Few images bias it upwards: with fewer than features a covariance lacks whole directions. Compare distances at equal numbers
of images only, and with that of as many real ones.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.finite import is_finite


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian that was fitted to features.

    Attributes:
        mean: float64 ``(d,)``.
        root: float64 ``(r, d)`` with r at most d, a root of the covariance: ``root.T @ root``.
        count: Features behind it.
    """

    mean: Tensor
    root: Tensor
    count: int

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        return float(self.root.square().sum())


def fit_gaussian(features: Tensor) -> Gaussian:
    """Fit a Gaussian to features.

    Args:
        features: Float ``(n, d)`` with n of at least 2, on any device.

    Returns:
        Mean and a root of the covariance (of the denominator n - 1), on the CPU.

    Raises:
        UserError: If there are fewer than two, or a value is no number.

    Example:
        >>> fitted = fit_gaussian(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
        >>> fitted.mean.tolist(), (fitted.root.T @ fitted.root).round(decimals=9).tolist()
        ([1.0, 0.0], [[2.0, 0.0], [0.0, 0.0]])
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(
            f"A Frechet distance needs features of two images or more, (n, d), not {tuple(features.shape)}."
        )
    if not is_finite(features):
        raise UserError("Features for a Frechet distance must be finite; some are NaN or infinite.")
    values = features.detach().cpu().double()
    mean = values.mean(0)
    # The triangle of a QR decomposition is a root of the covariance, of no more rows than there are directions: nothing is
    # squared, so that covariances of fewer images than features lose no digits.
    root = torch.linalg.qr((values - mean) / math.sqrt(len(values) - 1), mode="r").R
    return Gaussian(mean, root, len(values))


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    r"""Compute the squared Frechet distance of two Gaussians.

    With roots :math:`\Sigma_i = R_i^T R_i` the trace of :math:`(\Sigma_1 \Sigma_2)^{1/2}` is the sum of the singular
    values of :math:`R_1 R_2^T`, which needs no root of a product of two singular matrices.

    Args:
        first: Of one set.
        second: Of another, with features of the same network.

    Returns:
        At least 0, in the square of the features' unit.

    Raises:
        UserError: If they are of different dimensions.

    Example:
        >>> two = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        >>> round(frechet_distance(fit_gaussian(two), fit_gaussian(two + 1)), 9)
        2.0
    """
    if first.mean.shape != second.mean.shape:
        raise UserError(
            f"Features of {len(first.mean)} and of {len(second.mean)} dimensions cannot be compared."
        )
    means = float((first.mean - second.mean).square().sum())
    shared = float(torch.linalg.svdvals(first.root @ second.root.T).sum())
    return max(0.0, means + first.total_variance + second.total_variance - 2 * shared)
