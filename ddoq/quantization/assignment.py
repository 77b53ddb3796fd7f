"""Voronoi cells: which centroid is nearest, how far it is, and the mean of each cell."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ddoq.precision import without_autocast

ELEMENTS_CPU = 2**18  # 2 MiB of float64: a block stays in the cache
ELEMENTS_GPU = 2**26  # 512 MiB of float64


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch autocast, TF32 and other default dtypes off, which a trainer may have chosen: distances need every bit."""
    # The settings per backend can be read whichever way they were set; the older global one cannot.
    settings = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]  # type: ignore[attr-defined, unused-ignore]
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "ieee"
    try:
        with without_autocast(), torch.no_grad():
            yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def block_rows(device: torch.device, width: int, *, scale: int = 1) -> int:
    """Return how many rows of ``width`` values to treat at once."""
    elements = ELEMENTS_CPU if device.type == "cpu" else ELEMENTS_GPU
    return max(1, elements * scale // max(1, width))


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    r"""Find the nearest centroid of every point.

    A matrix product in float32 ranks the centroids by :math:`|c|^2 - 2 \langle c, x \rangle`. Points whose two
    best scores are closer than its rounding error are decided again by plain differences in float64. Of
    equally near centroids the first is taken.

    Args:
        points: float32 ``(n, d)``.
        centroids: float32 ``(k, d)``.

    Returns:
        int64 ``(n,)``.

    Example:
        >>> nearest(torch.tensor([[0.0], [0.9], [2.0]]), torch.tensor([[0.0], [1.0]])).tolist()
        [0, 1, 1]
    """
    (n, d), k = points.shape, len(centroids)
    if k == 1:
        return points.new_zeros(n, dtype=torch.int64)
    with full_precision():
        shift = centroids.double().mean(0).float()
        shifted = centroids - shift
        norms = shifted.double().square().sum(1)
        # Rounding errors of a dot product of d terms grow like sqrt(d); 8 is a safety factor.
        slack = 8 * torch.finfo(torch.float32).eps * math.sqrt(d)
        longest = float(norms.max().sqrt())
        labels = []
        for block in points.split(block_rows(points.device, max(k, d), scale=32)):
            moved = block - shift
            scores = torch.addmm(norms.float(), moved, shifted.T, alpha=-2)
            best, label = scores.min(1)
            second = scores.scatter_(1, label[:, None], math.inf).amin(1)
            error = slack * longest * (2 * moved.norm(dim=1) + longest)
            close = (second - best <= error).nonzero().squeeze(1)
            for rows in close.split(block_rows(points.device, k)):
                exact = torch.cdist(
                    block[rows].double(),
                    centroids.double(),
                    compute_mode="donot_use_mm_for_euclid_dist",
                )
                label[rows] = exact.argmin(1)
            labels.append(label)
        return torch.cat(labels)


def squared_distances(points: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """Measure the squared distance of every point to the centroid it is labelled with, in float64.

    Args:
        points: float32 ``(n, d)``.
        centroids: float32 ``(k, d)``.
        labels: int64 ``(n,)``.

    Returns:
        float64 ``(n,)``.
    """
    rows = block_rows(points.device, points.shape[1])
    parts = [
        (block.double() - centroids[label]).square_().sum(1)
        for block, label in zip(points.split(rows), labels.split(rows), strict=True)
    ]
    return torch.cat(parts)


def cell_sums(values: Tensor, labels: Tensor, k: int) -> Tensor:
    """Sum rows by label, the same way every time.

    ``index_add_`` is fastest on a CPU, but adds in any order on a GPU, where a product with the one-hot labels
    is repeatable.

    Args:
        values: ``(n, d)``.
        labels: int64 ``(n,)``.
        k: Number of cells.

    Returns:
        ``(k, d)`` of the type of ``values``.
    """
    sums = values.new_zeros(k, values.shape[1])
    if values.device.type == "cpu":
        return sums.index_add_(0, labels, values)
    rows = block_rows(values.device, k)
    for block, label in zip(values.split(rows), labels.split(rows), strict=True):
        hot = torch.zeros(k, len(label), dtype=values.dtype, device=values.device)
        sums.addmm_(hot.scatter_(0, label[None], 1), block)
    return sums


def cell_means(points: Tensor, labels: Tensor, empty: Tensor) -> Tensor:
    """Average each cell in float64.

    Args:
        points: float32 ``(n, d)``.
        labels: int64 ``(n,)``.
        empty: float32 ``(k, d)``, what stands in for the mean of an empty cell.

    Returns:
        float32 ``(k, d)``.
    """
    k = len(empty)
    sums = torch.zeros(empty.shape, dtype=torch.float64, device=points.device)
    rows = block_rows(points.device, points.shape[1])
    for block, label in zip(points.split(rows), labels.split(rows), strict=True):
        sums += cell_sums(block.double(), label, k)
    counts = torch.bincount(labels, minlength=k)[:, None]
    return torch.where(counts > 0, (sums / counts.clamp_min(1)).float(), empty)
