"""K-center: points that leave none of the others far away."""

import torch
from torch import Tensor

from ddoq.selection.features import check_features


def k_center(features: Tensor, k: int) -> Tensor:
    r"""Select the point nearest to the mean, then always the point that is farthest from those selected.

    The largest distance of a point to its nearest selected point is at most twice the least that k points can reach.
    A smaller selection is the beginning of a larger one. Of equally far points the first is taken.

    Source: T. F. Gonzalez, *Clustering to Minimize the Maximum Intercluster Distance*, 1985; as a coreset O. Sener and
    S. Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018, algorithm 1.

    Args:
        features: Float ``(n, d)``, on any device.
        k: How many to select, 1..n.

    Returns:
        int64 ``(k,)``: positions in the order of their selection, on the same device.

    Raises:
        UserError: If features are no finite float matrix, or k is not in 1..n.

    Example:
        >>> k_center(torch.tensor([[0.0], [4.0], [5.0], [7.0]]), 3)  # the mean is 4
        tensor([1, 0, 3])
    """
    points = check_features(features, k)
    latest = _squared_to(points, points.mean(dim=0)).argmin()
    chosen = [latest]
    nearest = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for _ in range(k - 1):
        nearest = nearest.minimum(_squared_to(points, points[latest]))
        nearest[latest] = -1  # where only copies are left, no point is taken twice
        latest = nearest.argmax()
        chosen.append(latest)
    return torch.stack(chosen)


def _squared_to(points: Tensor, target: Tensor) -> Tensor:
    return (points - target).square().sum(dim=1)
