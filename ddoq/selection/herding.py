"""Herding: points whose running mean stays as near as possible to the mean of all."""

import torch
from torch import Tensor

from ddoq.selection.features import check_features


def herding(features: Tensor, k: int) -> Tensor:
    r"""Select points one by one, each so that the mean of those selected comes nearest to the mean of all.

    .. math::
        i_t = \arg\min_{i \notin S} \Bigl\| \mu - \frac{1}{t} \bigl(x_i + \sum_{j \in S} x_j\bigr) \Bigr\|^2

    A smaller selection is the beginning of a larger one. Of equally good points the first is taken.

    Source: M. Welling, *Herding Dynamical Weights to Learn*, ICML 2009; as a selection S.-A. Rebuffi et al., *iCaRL*,
    CVPR 2017, algorithm 4.

    Args:
        features: Float ``(n, d)``, on any device.
        k: How many to select, 1..n.

    Returns:
        int64 ``(k,)``: positions in the order of their selection, on the same device.

    Raises:
        UserError: If features are no finite float matrix, or k is not in 1..n.

    Example:
        >>> herding(torch.tensor([[0.0], [4.0], [5.0], [7.0]]), 3)  # the mean is 4
        tensor([1, 2, 0])
    """
    points = check_features(features, k)
    # About the first point: the same differences, of fewer digits than the coordinates have.
    points = points - points[0]
    mean = points.mean(dim=0)
    total = torch.zeros_like(mean)
    free = torch.ones(len(points), dtype=torch.bool, device=points.device)
    chosen = []
    for t in range(1, k + 1):
        squared = (points - (t * mean - total)).square().sum(dim=1)
        best = squared.masked_fill(~free, torch.inf).argmin()
        chosen.append(best)
        total = total + points[best]
        free[best] = False
    return torch.stack(chosen)
