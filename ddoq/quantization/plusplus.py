"""Greedy k-means++ seeding."""

import math

import torch
from torch import Tensor

from ddoq.quantization.geometry import Geometry


def plusplus(
    geometry: Geometry, k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Seed k centroids at points that are far from one another.

    Each seed is the best of ``2 + floor(log k)`` candidates drawn with probability proportional to the squared
    distance to the nearest seed so far (D. Arthur and S. Vassilvitskii, *k-means++: The Advantages of
    Careful Seeding*, SODA 2007, with the greedy choice of section 6). With fewer than k distinct points,
    the remaining seeds are further copies of points; positions are always distinct.

    Args:
        geometry: The points.
        k: Number of seeds, at most the number of points.
        generator: A CPU generator; the draws are the same on every device.

    Returns:
        Positions of the seeds int64 ``(k,)``, the nearest seed of every point int64 ``(n,)``, and the squared
        distance to it ``(n,)``.
    """
    n, device = len(geometry), geometry.squared_norms.device
    trials = 2 + int(math.log(k))
    draws = torch.rand(k, trials, dtype=torch.float64, generator=generator).to(device)
    first = torch.randint(n, (1,), generator=generator).to(device)
    seeds = [first]
    closest = geometry.distances_from(first)[0].scatter_(0, first, 0.0)
    labels = torch.zeros(n, dtype=torch.int64, device=device)
    for number in range(1, k):
        cumulative = closest.double().cumsum(0)
        candidates = torch.searchsorted(cumulative, draws[number] * cumulative[-1], right=True)
        candidates = candidates.clamp_max(n - 1)
        distances = geometry.distances_from(candidates)
        best = torch.minimum(distances, closest).sum(1, dtype=torch.float64).argmin(0, keepdim=True)
        chosen = candidates[best]
        distance = distances[best[0]].scatter_(0, chosen, 0.0)
        nearer = distance < closest
        labels[nearer] = number
        closest = torch.where(nearer, distance, closest)
        seeds.append(chosen)
    return distinct(torch.cat(seeds), n), labels, closest


def distinct(seeds: Tensor, n: int) -> Tensor:
    """Replace repeated positions among ``n`` by unused ones, lowest first."""
    first = seeds[:, None] == seeds[None]
    repeated = first.tril(-1).any(1)
    unused = torch.ones(n, dtype=torch.bool, device=seeds.device)
    unused[seeds] = False
    spare = unused.nonzero().squeeze(1)[: int(repeated.sum())]
    return seeds.masked_scatter(repeated, spare)
