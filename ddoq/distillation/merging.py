"""Shards folded into a distilled set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ddoq.decoding.form import SetForm
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.labels.targets import Targets, join_targets


def merge_shards(
    shards: Sequence[Shard],
    weights: Sequence[Tensor],
    class_names: list[str],
    metadata: Mapping[str, Any],
    form: SetForm | None = None,
) -> DistilledSet:
    """Put the images of all shards into one set, by label; within a class in the order of the shards.

    Args:
        shards: What the work items made, in their order; all of them hold the same kinds of tensors.
        weights: float32 ``(n,)`` of each shard's images, of mean 1 within a class of the whole.
        class_names: Names in label order.
        metadata: The record of how they were made (JSON values).
        form: Decoder, transform and recipe of the set; plain images where omitted.

    Returns:
        The set; without labels its images come in the order of the shards.

    Raises:
        UserError: If the parts contradict one another.

    Example:
        >>> black = Shard(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([1]))
        >>> white = Shard(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8), torch.tensor([0]))
        >>> merge_shards([black, white], [torch.ones(1)] * 2, ["light", "dark"], {}).labels.tolist()
        [0, 1]
    """
    if len({shard.holds() for shard in shards}) > 1:
        raise UserError("Shards that hold different kinds of tensors cannot become one set.")
    images = torch.cat([shard.images for shard in shards])
    labels = _joined([shard.labels for shard in shards])
    order = torch.arange(len(images)) if labels is None else torch.argsort(labels, stable=True)
    stages = _joined([shard.stages for shard in shards])
    targets = _joined_targets([shard.targets for shard in shards])
    return DistilledSet(
        images[order],
        None if labels is None else labels[order],
        torch.cat(list(weights))[order],
        class_names,
        dict(metadata),
        None if targets is None else targets.rows(order),
        None if stages is None else stages[order],
        {
            name: torch.cat([shard.parts[name] for shard in shards])[order]
            for name in shards[0].parts
        },
        form or SetForm(),
    )


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


def _joined_targets(parts: Sequence[Targets | None]) -> Targets | None:
    present = [part for part in parts if part is not None]
    return join_targets(present) if present else None
