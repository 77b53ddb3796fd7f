"""Distilled graphs of nodes: how one graph becomes the tensors of a set, and the other way round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ddoq.decoding.decoders import Decoder, register_decoder
from ddoq.decoding.form import SetForm
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.graphs.nodes.batch import Nodes

ADJACENCY = "adjacency"  # name of the part
_WRONG = "Not a distilled graph of nodes: "


@register_decoder
@dataclass(frozen=True)
class StoredNodes(Decoder):
    """What is stored are the nodes of one graph: features, and a part for the weights of the edges between them."""

    name: ClassVar[str] = "nodes"

    def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Refuse tensors that are no graph; see :meth:`Decoder.check`."""
        n = len(images)
        if images.ndim != 2 or images.dtype != torch.float32 or not images.numel():
            raise UserError(
                f"{_WRONG}features must be float32 (n, d), not {images.dtype} {tuple(images.shape)}."
            )
        if set(parts) != {ADJACENCY}:
            raise UserError(f"{_WRONG}it needs the part {ADJACENCY}, not {sorted(parts)}.")
        adjacency = parts[ADJACENCY]
        if adjacency.dtype != torch.float32 or adjacency.shape != (n, n):
            raise UserError(f"{_WRONG}{ADJACENCY} must be float32 (n, n).")
        for name, tensor in (("features", images), (ADJACENCY, adjacency)):
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{_WRONG}{name} must be finite.")
        if bool((adjacency < 0).any()) or bool(adjacency.diagonal().any()):
            raise UserError(f"{_WRONG}{ADJACENCY} must be at least 0, and 0 on its diagonal.")
        if not torch.equal(adjacency, adjacency.T):
            raise UserError(f"{_WRONG}{ADJACENCY} must be symmetric.")

    def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Refuse: nodes are no images; see :func:`nodes_of`.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "This distilled set holds the nodes of a graph, not images: evaluate it on its own dataset of nodes (`data`)."
        )


FORM = SetForm(decoder=StoredNodes())


def node_shard(nodes: Nodes, extras: dict[str, Tensor], info: dict[str, Any]) -> Shard:
    """Make the one shard of a graph whose nodes all have labels, in ascending order: a set keeps its rows by label.

    Args:
        nodes: On any device.
        extras: Further tensors to keep.
        info: Further facts for the record.
    """
    nodes = nodes.to("cpu")
    assert torch.equal(nodes.rows, torch.arange(len(nodes.x)))
    assert bool((nodes.labels.diff() >= 0).all())
    return Shard(nodes.x, nodes.labels, extras, info, parts={ADJACENCY: nodes.adjacency()})


def nodes_of(distilled: DistilledSet) -> Nodes:
    """Read the graph of a distilled set.

    Raises:
        UserError: If it holds something else.
    """
    if not isinstance(distilled.form.decoder, StoredNodes) or distilled.labels is None:
        raise UserError(
            "This distilled set holds no nodes of a graph: evaluate it on the dataset that it was made of (`data`)."
        )
    return Nodes.of_adjacency(distilled.images, distilled.parts[ADJACENCY], distilled.labels)
