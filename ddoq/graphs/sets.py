"""Distilled sets of graphs: how graphs become the tensors of a set, and the other way round."""

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
from ddoq.graphs.batches import Graphs

NODES, EDGES = "nodes", "edges"  # names of the parts
_WRONG = "Not a distilled set of graphs: "


@register_decoder
@dataclass(frozen=True)
class StoredGraphs(Decoder):
    """What is stored are graphs, padded to one size: features of nodes, and parts for their number and their edges."""

    name: ClassVar[str] = "graphs"

    def check(self, images: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Refuse tensors that are no graphs; see :meth:`Decoder.check`."""
        n = len(images)
        if images.ndim != 3 or images.dtype != torch.float32 or not images.numel():
            raise UserError(
                f"{_WRONG}features must be float32 (n, N, d), not {images.dtype} {tuple(images.shape)}."
            )
        if set(parts) != {NODES, EDGES}:
            raise UserError(f"{_WRONG}it needs the parts {NODES} and {EDGES}, not {sorted(parts)}.")
        nodes, edges = parts[NODES], parts[EDGES]
        if nodes.dtype != torch.int32 or nodes.shape != (n,):
            raise UserError(f"{_WRONG}{NODES} must be int32 (n,).")
        if edges.dtype != torch.int32 or edges.ndim != 3 or edges.shape[::2] != (n, 2):
            raise UserError(f"{_WRONG}{EDGES} must be int32 (n, e, 2).")
        if int(nodes.min()) < 1 or int(nodes.max()) > images.shape[1]:
            raise UserError(f"{_WRONG}{NODES} must lie in 1..{images.shape[1]}.")
        if int(edges.min()) < -1 or bool((edges >= nodes[:, None, None]).any()):
            raise UserError(f"{_WRONG}{EDGES} must join nodes that are there.")
        if not bool(torch.isfinite(images).all()):
            raise UserError(f"{_WRONG}features must be finite.")

    def decode(self, images: Tensor, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Refuse: graphs are no images; see :func:`graphs_of`.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "This distilled set holds graphs, not images: evaluate it on its own dataset of graphs (`data`)."
        )


FORM = SetForm(decoder=StoredGraphs())


def graph_shard(
    graphs: Graphs, nodes: int, edges: int, extras: dict[str, Tensor], info: dict[str, Any]
) -> Shard:
    """Make a shard of graphs.

    Args:
        graphs: On any device.
        nodes: To how many nodes each is padded; all shards of a set have the same.
        edges: To how many undirected edges.
        extras: Further tensors to keep.
        info: Further facts for the record.
    """
    graphs = graphs.to("cpu")
    counts = graphs.nodes
    pairs = torch.full((len(graphs), max(edges, 1), 2), -1, dtype=torch.int32)
    first = counts.cumsum(0) - counts
    once = graphs.edges[:, graphs.edges[0] < graphs.edges[1]]
    owner = graphs.owner[once[0]]
    order = torch.argsort(owner, stable=True)
    once, owner = once[:, order], owner[order]
    listed = torch.bincount(owner, minlength=len(graphs))
    rank = torch.arange(len(owner)) - (listed.cumsum(0) - listed)[owner]
    pairs[owner, rank] = (once - first[owner]).T.int()
    return Shard(
        graphs.dense(nodes).x,
        graphs.labels,
        extras,
        info,
        parts={NODES: counts.int(), EDGES: pairs},
    )


def graphs_of(distilled: DistilledSet) -> Graphs:
    """Read the graphs of a distilled set.

    Raises:
        UserError: If it holds something else.
    """
    if not isinstance(distilled.form.decoder, StoredGraphs) or distilled.labels is None:
        raise UserError(
            "This distilled set holds no graphs: evaluate it on the dataset that it was made of (`data`)."
        )
    nodes, pairs = distilled.parts[NODES].tolist(), distilled.parts[EDGES].long()
    x, edges = [], []
    for features, count, ends in zip(distilled.images, nodes, pairs, strict=True):
        once = ends[ends[:, 0] >= 0].T
        both = torch.cat([once, once.flip(0)], dim=1)
        x.append(features[:count])
        edges.append(both)
    return Graphs.of(x, edges, distilled.labels)
