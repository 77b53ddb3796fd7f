"""What a quantiser returns, and what it accepts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization.assignment import nearest, squared_distances

LARGEST = 1e15  # squares of larger values, summed over many dimensions, leave the range of float32


@dataclass(frozen=True)
class Codebook:
    """Centroids and how much of the data each stands for.

    Attributes:
        centroids: float32 ``(k, d)``.
        counts: int64 ``(k,)``, sizes of the Voronoi cells; they sum to the number of points.
        distortion: Mean squared distance of a point to its nearest centroid.
        indices: int64 ``(k,)``, positions of the chosen points; methods ``random`` and ``medoid`` only.
        online_counts: int64 ``(k,)``, counts accumulated while learning; methods ``clvq`` and ``d4m`` only.
    """

    centroids: Tensor
    counts: Tensor
    distortion: float
    indices: Tensor | None = None
    online_counts: Tensor | None = None


def check_points(points: Tensor) -> Tensor:
    """Refuse what cannot be quantised.

    Args:
        points: float16, bfloat16, float32 or float64 ``(n, d)``.

    Returns:
        The points as contiguous float32, detached.

    Raises:
        UserError: If the type, the rank, the shape or a value is wrong.
    """
    if not isinstance(points, Tensor) or not points.is_floating_point():
        kind = points.dtype if isinstance(points, Tensor) else type(points).__name__
        raise UserError(
            f"points must be a floating-point tensor, not {kind}. Convert with .float()."
        )
    if points.ndim != 2 or 0 in points.shape:
        raise UserError(
            f"points must have shape (n, d) with n, d >= 1, not {tuple(points.shape)}. "
            "Flatten each point with .flatten(1)."
        )
    points = points.detach().float().contiguous()
    # A comparison with NaN is false, so that this counts NaN and both infinities too.
    wrong = len(points) - int((points.abs().amax(1) <= LARGEST).sum())
    if wrong:
        raise UserError(
            f"{wrong} of {len(points)} points hold NaN, infinity or values beyond ±{LARGEST:g}. "
            "Remove them, or look at what made them (half precision in the encoder is the usual cause)."
        )
    return points


def make_codebook(
    points: Tensor,
    centroids: Tensor,
    *,
    indices: Tensor | None = None,
    online_counts: Tensor | None = None,
) -> Codebook:
    """Count cells and measure distortion by a final full assignment.

    Args:
        points: float32 ``(n, d)``.
        centroids: float32 ``(k, d)``.
        indices: Positions of the chosen points.
        online_counts: Counts accumulated while learning.

    Returns:
        A codebook whose ``distortion`` comes from differences in float64, so that nothing cancels.
    """
    labels = nearest(points, centroids)
    distortion = float(squared_distances(points, centroids, labels).mean())
    counts = torch.bincount(labels, minlength=len(centroids))
    return Codebook(centroids, counts, distortion, indices, online_counts)
