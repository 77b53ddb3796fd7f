"""Sensitivities of k-means: how much single points can count in the cost of any clustering."""

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization import quantize
from ddoq.selection.features import check_features


def sensitivities(features: Tensor, centroids: Tensor) -> Tensor:
    r"""Bound the share of each point in the cost of k-means, up to a constant.

    .. math::
        s_i = \frac{d^2(x_i, C)}{\sum_j d^2(x_j, C)} + \frac{1}{|\text{cluster}(i)|}

    Their sum is one more than the number of clusters that are not empty.

    Source: M. Langberg and L. J. Schulman, *Universal Epsilon-Approximators for Integrals*, SODA 2010; O. Bachem, M. Lucic
    and A. Krause, *Practical Coreset Constructions for Machine Learning*, 2017.

    Args:
        features: Float ``(n, d)``, on any device.
        centroids: Float ``(k, d)``, on the same device.

    Returns:
        Float64 ``(n,)``; where every point is a centroid the first term is 1/n.

    Raises:
        UserError: If features are no finite float matrix, or centroids have another width.

    Example:
        >>> sensitivities(torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([[1.0], [9.0]])).tolist()
        [1.0, 1.0, 1.0]
    """
    points = check_features(features, 1)
    centres = centroids.detach().to(points)
    if centres.ndim != 2 or centres.shape[1] != points.shape[1]:
        raise UserError(
            f"Centroids must be a matrix with {points.shape[1]} columns, not of the shape {tuple(centres.shape)}."
        )
    squared = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest, cluster = squared.min(dim=1)
    total = nearest.sum()
    share = nearest / total if total > 0 else torch.full_like(nearest, 1 / len(points))
    return share + 1 / torch.bincount(cluster, minlength=len(centres))[cluster]


def kmeans_sensitivities(features: Tensor, k: int, *, seed: int) -> Tensor:
    """Return the sensitivities of points about centroids of their own.

    Args:
        features: Float ``(n, d)``.
        k: Clusters; at most n of them.
        seed: Of k-means.

    Returns:
        Float64 ``(n,)``.
    """
    points = check_features(features, 1)
    codebook = quantize(points.float(), min(k, len(points)), method="lloyd", seed=seed)
    return sensitivities(features, codebook.centroids.to(features.device))
