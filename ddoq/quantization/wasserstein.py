"""Exact Wasserstein-2 distance between a point cloud and a weighted codebook."""

import math
import warnings

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization.assignment import nearest, squared_distances
from ddoq.quantization.codebook import Codebook, check_points
from ddoq.quantization.selection import pairwise_squared

ITERATIONS = (
    100_000_000  # of the network simplex; POT's own limit of 100,000 is too low for large classes
)
SAME = 1e-6  # weights that agree with the cells to float32 precision are the cells' own


def wasserstein2(points: Tensor, codebook: Codebook, weights: Tensor | None = None) -> float:
    r"""Measure how far a weighted codebook is from the data.

    .. math:: W_2^2 = \min_\pi \sum_{i,k} \pi_{ik} |x_i - c_k|^2 , \quad
        \sum_k \pi_{ik} = 1/n, \quad \sum_i \pi_{ik} = w_k / \textstyle\sum_j w_j

    Free choice of the weights makes every point go to its nearest centroid: with the masses of the cells
    the distance is the square root of the distortion, and no other weights come closer. For other weights the
    transport problem is solved exactly, by the network simplex of POT.

    Args:
        points: Float tensor ``(n, d)``, each of mass 1/n.
        codebook: Centroids ``(k, d)``.
        weights: ``(k,)``, not negative, on any scale; None takes the codebook's counts.

    Returns:
        The distance, in the unit of the points, to float64 accuracy.

    Raises:
        UserError: If shapes do not match or weights are no masses.
        RuntimeError: If the solver does not reach the optimum.

    Example:
        >>> points = torch.tensor([[0.0], [0.0], [0.0], [2.0]])
        >>> codebook = Codebook(torch.tensor([[0.0], [2.0]]), torch.tensor([3, 1]), 0.0)
        >>> wasserstein2(points, codebook), wasserstein2(points, codebook, torch.ones(2))
        (0.0, 1.0)
    """
    points = check_points(points)
    centroids = check_points(codebook.centroids).to(points.device)
    if points.shape[1] != centroids.shape[1]:
        raise UserError(
            f"points have {points.shape[1]} dimensions, but the codebook has {centroids.shape[1]}."
        )
    shares = check_weights(codebook.counts if weights is None else weights, len(centroids))
    labels = nearest(points, centroids)
    free = float(squared_distances(points, centroids, labels).mean())
    cells = torch.bincount(labels, minlength=len(centroids)).cpu().double() / len(points)
    if torch.allclose(shares, cells, rtol=SAME, atol=0):
        return math.sqrt(free)
    used = shares > 0
    cost = pairwise_squared(centroids[used.to(points.device)], points).T
    # The free optimum bounds every other: rounding must not turn the order round.
    return math.sqrt(max(free, transport_cost(cost, shares[used])))


def check_weights(weights: Tensor, k: int) -> Tensor:
    """Return weights as float64 shares ``(k,)`` on the CPU, or say what is wrong with them."""
    if weights.shape != (k,):
        raise UserError(f"weights must have shape ({k},), not {tuple(weights.shape)}.")
    exact = weights.detach().cpu().double()
    if not bool(((exact >= 0) & exact.isfinite()).all()) or not bool(exact.any()):
        raise UserError("weights must be finite, not negative and not all 0.")
    return exact / exact.sum()


def transport_cost(cost: Tensor, shares: Tensor) -> float:
    """Solve the transport problem between equal masses and given shares.

    Args:
        cost: float64 ``(n, k)``.
        shares: float64 ``(k,)``, positive, summing to 1.

    Returns:
        The least mean cost.

    Raises:
        RuntimeError: If the solver does not reach the optimum.
    """
    from ot.lp import emd2

    n = len(cost)
    # Costs near 1 keep the solver's absolute tolerances meaningful.
    scale = float(cost.mean()) or 1.0
    mass = torch.full((n,), 1 / n, dtype=torch.float64).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what POT warns of is raised below
        value, log = emd2(
            mass, shares.numpy(), (cost / scale).cpu().numpy(), numItermax=ITERATIONS, log=True
        )
    if log["warning"] is not None or log.get("result_code", 1) != 1:
        raise RuntimeError(
            f"The optimal-transport solver found no optimum for {n} points and {len(shares)} centroids: "
            f"{log['warning']}"
        )
    return float(value) * scale
