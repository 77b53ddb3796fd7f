"""Loss pruning: the images of each class that a network learns most easily.

Source: Y. Xu et al., *Distill Gold from Massive Ores: Bi-level Data Pruning towards Efficient Dataset Distillation*, ECCV
2024; silicx/GoldFromOres at 0b5f6ff. No code of theirs is used.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest

Rank = Literal["initial", "converged", "mean"]


def rank_losses(losses: Tensor, rank: Rank) -> Tensor:
    """Fold the losses of images along trainings into one score each; the lowest are the easiest.

    Args:
        losses: Float ``(networks, epochs, n)``: of every image, after every epoch of every training.
        rank: ``initial``: after the first epoch; ``converged``: after the last; ``mean``: over all epochs, the Monte-Carlo
            estimate. Each is a mean over the trainings.

    Returns:
        Float64 ``(n,)``.

    Raises:
        UserError: If the rank is unknown.

    Example:
        >>> losses = torch.tensor([[[3.0, 1.0], [0.0, 2.0]]])
        >>> [rank_losses(losses, rank).tolist() for rank in ("initial", "converged", "mean")]
        [[3.0, 1.0], [0.0, 2.0], [1.5, 1.5]]
    """
    if rank not in get_args(Rank):
        raise UserError(f"Unknown rank {rank!r}. {suggest(rank, get_args(Rank))}")
    chosen = {"initial": losses[:, :1], "converged": losses[:, -1:], "mean": losses}[rank]
    return chosen.double().mean(dim=(0, 1))


def kept_of(count: int, keep: float) -> int:
    """Return how many of so many images a share keeps, rounded down.

    Example:
        >>> kept_of(10, 0.3), kept_of(10, 0.29), kept_of(3, 0.1)
        (3, 2, 0)
    """
    return math.floor(count * keep + 1e-9)  # 10 * 0.3 is 2.9999...


def prune_by_loss(scores: Tensor, labels: Tensor, keep: float) -> Tensor:
    """Keep of every class the share of images with the lowest scores; of equal ones the first.

    Args:
        scores: Float ``(n,)``.
        labels: int64 ``(n,)``.
        keep: Share of every class, in (0, 1].

    Returns:
        int64: positions of the kept images, ascending.

    Example:
        >>> prune_by_loss(torch.tensor([0.3, 0.1, 0.2, 0.9]), torch.tensor([0, 0, 0, 1]), 0.67)
        tensor([1, 2])
        >>> prune_by_loss(torch.tensor([0.3, 0.1, 0.2, 0.9]), torch.tensor([0, 0, 0, 1]), 1.0)
        tensor([0, 1, 2, 3])
    """
    kept = []
    for label in labels.unique():
        positions = torch.nonzero(labels == label).flatten()
        order = torch.argsort(scores[positions], stable=True)
        kept.append(positions[order[: kept_of(len(positions), keep)]])
    return torch.cat(kept).sort().values
