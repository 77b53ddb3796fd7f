"""Competitive learning vector quantisation: mini-batch k-means with step 1 / count."""

import torch
from torch import Tensor

from ddoq.quantization.assignment import cell_sums
from ddoq.quantization.codebook import Codebook, make_codebook
from ddoq.quantization.geometry import choose_geometry
from ddoq.quantization.plusplus import plusplus
from ddoq.seeding import generator_for

BATCH_SIZE = 64  # small against a class, so that centroids move between batches as they do online


def clvq(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    passes: int = 1,
    batch_size: int = BATCH_SIZE,
) -> Codebook:
    r"""Quantise by presenting the points in random order, batch by batch.

    The winner :math:`k` of a point :math:`x` learns by

    .. math:: v_k \leftarrow v_k + 1, \qquad c_k \leftarrow c_k + (x - c_k) / v_k ,

    starting at :math:`v_k = 1`. The seeds of k-means++ are the first presentation of their points, so that
    the first pass leaves them out and the online counts sum to ``passes * n``. Winners within a batch are
    decided by the centroids before it.

    Source: H. Y. Tan and E. Slade, *Dataset Distillation as Pushforward Optimal Quantization*, arXiv
    2501.07681; D. Sculley, *Web-Scale K-Means Clustering*, WWW 2010.

    Args:
        points: float32 ``(n, d)``, finite.
        k: Number of centroids, at most n.
        seed: Decides seeds and order.
        passes: How often every point is presented.
        batch_size: Points a batch; 1 is the online rule.

    Returns:
        The codebook with ``online_counts``.
    """
    generator = generator_for(seed, "clvq")
    seeds, _, _ = plusplus(choose_geometry(points, k, 1), k, generator)
    # Centred, since the scores of `learn` lose digits to a common offset.
    mean = points.mean(0, dtype=torch.float64).float()
    centroids = points[seeds] - mean
    counts = torch.ones(k, dtype=torch.int64, device=points.device)
    fresh = torch.ones(len(points), dtype=torch.bool)
    fresh[seeds.cpu()] = False
    for number in range(passes):
        order = torch.randperm(len(points), generator=generator)
        if number == 0:
            order = order[fresh[order]]
        for batch in order.to(points.device).split(batch_size):
            centroids, counts = learn(centroids, counts, points[batch] - mean)
    return make_codebook(points, centroids + mean, online_counts=counts)


def learn(centroids: Tensor, counts: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Present one batch.

    Args:
        centroids: float32 ``(k, d)``.
        counts: int64 ``(k,)``, at least 1.
        batch: float32 ``(b, d)``.

    Returns:
        New centroids and counts: what the online rule reaches after the batch when its winners are fixed, the
        running mean of all points won so far.
    """
    k = len(centroids)
    norms = centroids.square().sum(1)
    labels = torch.addmm(norms, batch, centroids.T, alpha=-2).argmin(1)
    won = torch.bincount(labels, minlength=k)
    total = counts + won
    step = (cell_sums(batch, labels, k) - won[:, None] * centroids) / total[:, None]
    return centroids + step, total
