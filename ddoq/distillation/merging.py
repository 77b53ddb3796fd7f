"""Shards folded into a distilled set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard


def merge_shards(
    shards: Sequence[Shard],
    weights: Sequence[Tensor],
    class_names: list[str],
    metadata: Mapping[str, Any],
) -> DistilledSet:
    """Put the images of all shards into one set, by label; within a class in the order of the shards.

    Args:
        shards: What the work items made, in their order.
        weights: float32 ``(n,)`` of each shard's images, of mean 1 within a class of the whole.
        class_names: Names in label order.
        metadata: The record of how they were made (JSON values).

    Returns:
        The set.

    Raises:
        UserError: If the parts contradict one another.

    Example:
        >>> black = Shard(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([1]))
        >>> white = Shard(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), torch.tensor([0]))
        >>> merge_shards([black, white], [torch.ones(1)] * 2, ["light", "dark"], {}).labels.tolist()
        [0, 1]
    """
    labels = torch.cat([shard.labels for shard in shards])
    images = torch.cat([shard.images for shard in shards])
    order = torch.argsort(labels, stable=True)
    return DistilledSet(
        images[order], labels[order], torch.cat(list(weights))[order], class_names, dict(metadata)
    )
