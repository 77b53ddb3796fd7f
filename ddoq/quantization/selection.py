"""Codebooks whose centroids are points of the data."""

import torch
from torch import Tensor

from ddoq.quantization.assignment import block_rows, full_precision
from ddoq.quantization.codebook import Codebook, make_codebook
from ddoq.seeding import generator_for


def random(points: Tensor, k: int, *, seed: int = 0) -> Codebook:
    """Choose k of the points at random, without replacement.

    Args:
        points: float32 ``(n, d)``.
        k: Number of points to choose, at most n.
        seed: Decides which.

    Returns:
        The codebook with ``indices``.
    """
    order = torch.randperm(len(points), generator=generator_for(seed, "random"))
    indices = order[:k].to(points.device)
    return make_codebook(points, points[indices], indices=indices)


def medoid(points: Tensor, codebook: Codebook) -> Codebook:
    """Replace every centroid by the point nearest to it, using no point twice.

    Where two centroids share their nearest point, distinct points of least total squared distance are taken.

    Args:
        points: float32 ``(n, d)``.
        codebook: Centroids ``(k, d)`` with k at most n.

    Returns:
        A codebook of points with ``indices``; counts and distortion are those of the points.
    """
    squared = pairwise_squared(codebook.centroids, points)
    indices = squared.argmin(1)
    if len(indices.unique()) < len(indices):
        from scipy.optimize import (  # type: ignore[import-untyped, unused-ignore]
            linear_sum_assignment,
        )

        _, columns = linear_sum_assignment(squared.cpu().numpy())
        indices = torch.from_numpy(columns).to(points.device)
    return make_codebook(points, points[indices], indices=indices)


def pairwise_squared(left: Tensor, right: Tensor) -> Tensor:
    """Return all squared distances in float64, ``(m, d)`` against ``(n, d)`` to ``(m, n)``."""
    with full_precision():
        shift = left.double().mean(0)
        a = left.double() - shift
        parts = []
        for block in right.split(block_rows(right.device, right.shape[1], scale=8)):
            b = block.double() - shift
            norms = a.square().sum(1)[:, None] + b.square().sum(1)
            parts.append(torch.addmm(norms, a, b.T, alpha=-2).clamp_min_(0))
        return torch.cat(parts, 1)
