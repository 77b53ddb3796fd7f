"""Intrinsic dimension of a point cloud, by two published estimators."""

import numpy as np
import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization.codebook import check_points

DISCARDED = 0.1  # of the ratios, the largest: what Facco et al. leave out of their fit
FEWEST = 10  # distinct points, below which no estimate means anything
NEIGHBOURS = (10, 20)  # what Levina and Bickel average over


def two_nn(points: Tensor, discard: float = DISCARDED) -> float:
    r"""Estimate the dimension from the distances to the two nearest neighbours.

    Where the density hardly changes between them, the ratios :math:`\mu_i = r_{i2} / r_{i1}` have the distribution
    :math:`F(\mu) = 1 - \mu^{-d}`, so that :math:`-\log(1 - F)` over :math:`\log \mu` is a line through 0 of slope d.

    Source: E. Facco, M. d'Errico, A. Rodriguez and A. Laio, *Estimating the intrinsic dimension of datasets by a minimal
    neighborhood information*, Scientific Reports 7 (2017).

    Args:
        points: Float ``(n, D)``; repeated points count once.
        discard: Share of the largest ratios to leave out of the fit, in [0, 1).

    Returns:
        The dimension.

    Raises:
        UserError: If fewer than :data:`FEWEST` points are distinct, or ``discard`` is no such share.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> flat = torch.rand(2000, 2, generator=generator) @ torch.rand(2, 7, generator=generator)
        >>> round(two_nn(flat), 1)
        2.0
    """
    if not 0 <= discard < 1:
        raise UserError(f"discard must be in [0, 1), not {discard}.")
    distances = _neighbour_distances(points, 2)
    logs = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    n = len(logs)
    kept = min(n - 1, max(2, int(n * (1 - discard))))
    x = logs[:kept]
    y = -np.log1p(-np.arange(1, kept + 1) / n)
    return float((x @ y) / (x @ x))


def levina_bickel(points: Tensor, neighbours: tuple[int, int] = NEIGHBOURS) -> float:
    r"""Estimate the dimension by maximum likelihood from the distances to some nearest neighbours.

    With the distance :math:`T_j(x)` of a point to its j-th neighbour

    .. math:: \hat m_k^{-1} = \frac{1}{n (k-1)} \sum_x \sum_{j<k} \log \frac{T_k(x)}{T_j(x)} ,

    averaged over k. Source: E. Levina and P. J. Bickel, *Maximum likelihood estimation of intrinsic dimension*, NIPS 2004;
    inverses are averaged over points, as D. MacKay and Z. Ghahramani corrected it (2005).

    Args:
        points: Float ``(n, D)``; repeated points count once.
        neighbours: First and last k, at least 2; above n - 1 they are lowered to it.

    Returns:
        The dimension.

    Raises:
        UserError: If fewer than :data:`FEWEST` points are distinct, or ``neighbours`` are no such range.
    """
    first, last = neighbours
    if not 2 <= first <= last:
        raise UserError(f"neighbours must be two numbers from 2 on, in order, not {neighbours}.")
    logs = np.log(_neighbour_distances(points, last))
    last = logs.shape[1]
    estimates = [
        1 / float((logs[:, k - 1 : k] - logs[:, : k - 1]).mean())
        for k in range(min(first, last), last + 1)
    ]
    return float(np.mean(estimates))


def _neighbour_distances(points: Tensor, count: int) -> np.ndarray:
    """Return distances to the nearest other points, float64 ``(n, min(count, n - 1))``, without repeated points."""
    from sklearn.neighbors import NearestNeighbors

    distinct = torch.unique(check_points(points).cpu(), dim=0).double().numpy()
    if len(distinct) < FEWEST:
        raise UserError(
            f"An intrinsic dimension needs {FEWEST} distinct points at least, not {len(distinct)}."
        )
    # A tree takes differences; the brute-force search multiplies, which cancels for near points.
    search = NearestNeighbors(n_neighbors=min(count, len(distinct) - 1), algorithm="kd_tree")
    distances, _ = search.fit(distinct).kneighbors()
    return np.asarray(distances)
