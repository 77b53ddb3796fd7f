"""Two ways to measure distances within a point cloud: from coordinates, or from inner products alone.

K-means needs distances only between points and means of points. Both follow from the n x n matrix of inner
products, so that for n < d an iteration need not touch the d coordinates at all. Both ways give the same
answer up to rounding.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ddoq.quantization.assignment import block_rows

# Relative rounding error below which two points count as equal when cells are seeded.
RESOLUTION = 1e-6


class Geometry(ABC):
    """A centred point cloud.

    Args:
        rows: ``(n, m)``, what is summed over a cell to represent its centroid.
        squared_norms: ``(n,)``.
    """

    def __init__(self, rows: Tensor, squared_norms: Tensor) -> None:
        self.rows = rows
        self.squared_norms = squared_norms

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.rows)

    @abstractmethod
    def inner(self, indices: Tensor) -> Tensor:
        """Return inner products ``(m, n)`` of some points with all points."""

    @abstractmethod
    def scores(self, sums: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least value of ``|c|^2 - 2 <c, x>`` and its cell, for every point."""

    def distances_from(self, indices: Tensor) -> Tensor:
        """Return squared distances ``(m, n)`` of some points to all points; rounding errors become 0."""
        norms = self.squared_norms[indices][:, None] + self.squared_norms
        squared = norms - 2 * self.inner(indices)
        return torch.where(squared > RESOLUTION * norms, squared, 0.0)

    def assign(self, sums: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Assign every point to the nearest mean of a cell.

        Args:
            sums: ``(k, m)``, rows summed by cell.
            labels: int64 ``(n,)``, the cells that ``sums`` belongs to.
            counts: int64 ``(k,)``; empty cells attract no point.

        Returns:
            int64 labels ``(n,)`` and squared distances ``(n,)``.
        """
        least, chosen = self.scores(sums, labels, counts)
        squared = least + self.squared_norms
        return chosen, torch.where(squared > RESOLUTION * self.squared_norms, squared, 0.0)


class Coordinates(Geometry):
    """Distances from centred coordinates ``(n, d)``."""

    def __init__(self, centred: Tensor) -> None:
        super().__init__(centred, centred.square().sum(1))

    def inner(self, indices: Tensor) -> Tensor:
        """Multiply coordinates."""
        return self.rows[indices] @ self.rows.T

    def scores(self, sums: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply coordinates of means, block by block."""
        means = sums / counts.clamp_min(1)[:, None]
        norms = means.square().sum(1).masked_fill(counts == 0, torch.inf)
        rows = block_rows(means.device, len(means), scale=8)
        blocks = self.rows.split(rows)
        pairs = [torch.addmm(norms, block, means.T, alpha=-2).min(1) for block in blocks]
        least, chosen = zip(*pairs, strict=True)
        return torch.cat(least), torch.cat(chosen)


class InnerProducts(Geometry):
    """Distances from the Gram matrix of centred coordinates ``(n, d)``."""

    def __init__(self, centred: Tensor) -> None:
        gram = symmetric_product(centred)
        super().__init__(gram, gram.diagonal().clone())

    def inner(self, indices: Tensor) -> Tensor:
        """Look up."""
        return self.rows[indices]

    def scores(self, sums: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Average inner products over cells: ``<c, x>`` over its points, ``|c|^2`` over its pairs."""
        filled = counts.clamp_min(1)
        inner = sums / filled[:, None]
        same_cell = torch.zeros_like(inner)
        same_cell.scatter_(0, labels[None], inner.gather(0, labels[None]))
        norms = (same_cell.sum(1) / filled).masked_fill(counts == 0, torch.inf)
        values = torch.add(norms[:, None], inner, alpha=-2).min(0)
        return values.values, values.indices


def symmetric_product(rows: Tensor, block: int = 256) -> Tensor:
    """Multiply a matrix ``(n, d)`` with its transpose, computing each pair once."""
    n = len(rows)
    product = rows.new_empty(n, n)
    for start in range(0, n, block):
        part = rows[start : start + block] @ rows[start:].T
        product[start : start + block, start:] = part
        product[start:, start : start + block] = part.T
    return product


def choose_geometry(points: Tensor, k: int, restarts: int) -> Geometry:
    """Centre the points and choose the cheaper geometry.

    The Gram matrix costs as much as n / (2k) iterations on coordinates. A start takes about 25 of them:
    greedy seeding (the work of 10) and a dozen or more iterations.

    Args:
        points: float32 ``(n, d)``.
        k: Number of centroids.
        restarts: Number of starts.

    Returns:
        Inner products if n < d and they pay off, else coordinates.
    """
    n, d = points.shape
    mean = torch.zeros(d, dtype=torch.float64, device=points.device)
    for block in points.split(block_rows(points.device, d)):
        mean += block.double().sum(0)
    centred = points - (mean / n).float()
    if n < d and n <= 50 * k * restarts:
        return InnerProducts(centred)
    return Coordinates(centred)
