"""What methods share that keep real images."""

from typing import Any

import torch
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard


def keep(
    data: ImageDataModule,
    label: int,
    indices: Tensor,
    extras: dict[str, Tensor],
    info: dict[str, Any],
) -> Shard:
    """Make the shard of a class from real images.

    Args:
        data: The dataset.
        label: The class.
        indices: int64 ``(k,)``, positions in the training split.
        extras: Further tensors to keep.
        info: Further facts for the record.

    Returns:
        A shard whose ``indices``, as a tensor and as numbers in the record, say which images it holds.
    """
    positions: list[int] = indices.tolist()
    return Shard(
        data.train.load(positions),
        torch.full((len(positions),), label),
        {"indices": indices, **extras},
        {"indices": positions, **info},
    )
