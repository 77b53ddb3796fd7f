"""Lloyd's algorithm, run until no point changes its cell."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ddoq.quantization.assignment import cell_means, cell_sums, nearest, squared_distances
from ddoq.quantization.codebook import Codebook, make_codebook
from ddoq.quantization.geometry import RESOLUTION, Geometry, choose_geometry
from ddoq.quantization.plusplus import plusplus
from ddoq.seeding import generator_for


@dataclass(frozen=True)
class Partition:
    """Cells that one start has found.

    Attributes:
        labels: int64 ``(n,)``, the cell of every point.
        seeds: int64 ``(k,)``, positions of the points that it started from.
        distortion: Mean squared distance to the centroid, to float32 precision.
        iterations: How many assignments were made.
    """

    labels: Tensor
    seeds: Tensor
    distortion: float
    iterations: int


def lloyd(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    restarts: int = 1,
    max_iterations: int = 300,
    tolerance: float = 0.0,
) -> Codebook:
    """Quantise by Lloyd's algorithm from k-means++ seeds, and keep the best start.

    Iterations run in float32; the best start is then settled in float64, so that at convergence every
    centroid is the mean of its cell. Where n < d, iterations work on inner products.

    Args:
        points: float32 ``(n, d)``, finite.
        k: Number of centroids, at most n.
        seed: Decides the seeds.
        restarts: Number of starts.
        max_iterations: Limit of assignments per start, at least 1; a warning says when it was too low.
        tolerance: Relative decrease of distortion at which to stop early; 0 runs to convergence.

    Returns:
        The codebook. With fewer than k distinct points the spare centroids repeat a point and count 0.
    """
    geometry = choose_geometry(points, k, restarts)
    starts = []
    for number in range(restarts):
        generator = generator_for(seed, "k-means++", number)
        starts.append(partition(geometry, k, generator, max_iterations, tolerance))
    best = min(starts, key=lambda start: start.distortion)
    rounds = max_iterations - best.iterations if tolerance == 0 else 1
    centroids = settle(points, best.labels, points[best.seeds], max(1, rounds), warn=tolerance == 0)
    return make_codebook(points, centroids)


def partition(
    geometry: Geometry,
    k: int,
    generator: torch.Generator,
    max_iterations: int,
    tolerance: float,
) -> Partition:
    """Run one start on a geometry."""
    seeds, labels, distances = plusplus(geometry, k, generator)
    labels, counts = fill_empty(labels, distances, k)
    sums = cell_sums(geometry.rows, labels, k)
    before = float(distances.mean(dtype=torch.float64))
    for iteration in range(1, max_iterations + 1):
        proposal, distances = geometry.assign(sums, labels, counts)
        proposal, counts = fill_empty(proposal, distances, k)
        moved = (proposal != labels).nonzero().squeeze(1)
        distortion = float(distances.mean(dtype=torch.float64))
        if len(moved) == 0:
            break
        rows = geometry.rows[moved]
        sums += cell_sums(torch.cat([rows, -rows]), torch.cat([proposal[moved], labels[moved]]), k)
        labels = proposal
        # With tolerance 0 this ends a cycle between ties that rounding would keep alive.
        if iteration > 1 and before - distortion <= tolerance * before:
            break
        before = distortion
    return Partition(labels, seeds, distortion, iteration)


def settle(
    points: Tensor, labels: Tensor, fallback: Tensor, rounds: int, *, warn: bool = True
) -> Tensor:
    """Iterate with exact means and assignments until the cells no longer change.

    Args:
        points: float32 ``(n, d)``.
        labels: int64 ``(n,)``, cells near convergence.
        fallback: float32 ``(k, d)``, centroids for cells that stay empty.
        rounds: Limit of iterations.
        warn: Whether reaching the limit is worth a warning.

    Returns:
        float32 centroids ``(k, d)``.
    """
    centroids = fallback
    for _ in range(rounds):
        centroids = cell_means(points, labels, centroids)
        proposal = nearest(points, centroids)
        if int(torch.bincount(proposal, minlength=len(fallback)).min()) == 0:
            distances = squared_distances(points, centroids, proposal)
            proposal, _ = fill_empty(proposal, distances, len(fallback))
        if torch.equal(proposal, labels):
            return centroids
        labels = proposal
    if warn:
        warnings.warn(
            f"k-means with {len(fallback)} centroids did not converge within max_iterations; raise it.",
            stacklevel=2,
        )
    return centroids


def fill_empty(labels: Tensor, distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Move the points farthest from their centroids into empty cells, one each.

    A point that is alone in its cell, or that lies on its centroid, stays.

    Args:
        labels: int64 ``(n,)``.
        distances: Squared distances ``(n,)`` to the centroids; not changed.
        k: Number of cells.

    Returns:
        Labels and counts ``(k,)``; a cell stays empty if there are fewer than k distinct points.
    """
    counts = torch.bincount(labels, minlength=k)
    empty = (counts == 0).nonzero().squeeze(1).tolist()
    if not empty:
        return labels, counts
    labels = labels.clone()
    order = distances.argsort(descending=True, stable=True)
    threshold = RESOLUTION * float(distances.max())
    farthest = order[distances[order] > threshold].tolist()
    sizes = counts.tolist()
    for point in farthest:
        if not empty:
            break
        donor = int(labels[point])
        if sizes[donor] > 1:
            cell = empty.pop(0)
            labels[point] = cell
            sizes[donor] -= 1
            sizes[cell] = 1
    return labels, torch.bincount(labels, minlength=k)
