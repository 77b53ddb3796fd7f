"""Weights of centroids from the sizes of their cells."""

import torch
from torch import Tensor

from ddoq.errors import UserError


def cell_weights(counts: Tensor, power: float = 1.0) -> Tensor:
    r"""Turn cell sizes into weights of mean 1.

    .. math:: w_k = K \, v_k^p / \sum_j v_j^p

    Args:
        counts: Cell sizes ``(k,)``, not negative.
        power: The exponent p in [0, 1]: 1 gives the mass of the cell, 0 equal weights for all, empty cells
            included. With p > 0 an empty cell weighs 0; its image still acts through CutMix and batch normalisation.

    Returns:
        float32 ``(k,)`` on the device of ``counts``.

    Raises:
        UserError: If ``power`` is outside [0, 1], or ``counts`` is no vector of sizes, or all are 0 and p > 0.

    Example:
        >>> cell_weights(torch.tensor([1, 4, 9]), power=0.5)
        tensor([0.5000, 1.0000, 1.5000])
    """
    if not 0 <= power <= 1:
        raise UserError(f"power must be in [0, 1], not {power}.")
    if counts.ndim != 1 or len(counts) == 0:
        raise UserError(f"counts must have shape (k,) with k >= 1, not {tuple(counts.shape)}.")
    exact = counts.double()
    if not bool(((exact >= 0) & exact.isfinite()).all()):
        raise UserError("counts must be finite and not negative.")
    if power == 0:
        return torch.ones_like(counts, dtype=torch.float32)
    if not bool(exact.any()):
        raise UserError("counts are all 0: no cell has a point, so that no weight is defined.")
    raised = exact**power
    return (raised * (len(raised) / raised.sum())).float()
