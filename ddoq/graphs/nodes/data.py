"""What every dataset of nodes offers: three splits of the labelled nodes of one graph, and a fingerprint."""

from abc import abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data import ClassRegistry
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.graphs.base import SPLITS, GraphData
from ddoq.graphs.extra import require
from ddoq.graphs.figures import node_sheet
from ddoq.graphs.nodes.batch import Nodes
from ddoq.graphs.nodes.sets import FORM, node_shard, nodes_of


@dataclass(frozen=True)
class RawNodes:
    """A graph as its source has it.

    Attributes:
        x: Features of the nodes, ``(v, d)``, or None where it has none.
        edges: int64 ``(2, e)``, in any direction, perhaps twice or from a node to itself.
        labels: int64 ``(v,)``; of nodes in no split they count for nothing.
        classes: In label order.
        splits: Positions of training, validation and test nodes, no node in two of them; None where the source has no
            split.
    """

    x: Tensor | None
    edges: Tensor
    labels: Tensor
    classes: ClassRegistry
    splits: tuple[Tensor, Tensor, Tensor] | None = None


class NodeDataModule(GraphData):
    """Labelled nodes of one graph: a node is a sample. Edges have no direction; loops and repetitions are dropped.

    All nodes are there from the start, with their edges; labels are those of training nodes alone (the transductive
    setting). A subclass sets ``name`` and implements :meth:`load`. Where the source has no split of its own, each class is
    split at random into half training, a quarter validation and a quarter test nodes, at least one of each.

    Args:
        split_seed: Decides that split.

    Raises:
        UserError: For a seed that is none, or without the extra ``graphs``.
    """

    holds = "nodes"
    part = 4
    form = FORM
    stand_in = "ddoq.graphs.Communities"
    train: Nodes
    val: Nodes
    test: Nodes

    def work_items(self) -> list[WorkItem]:
        """List one item: edges join nodes of all classes."""
        return [WorkItem(0, "graph", tuple(range(self.num_classes)))]

    def keep(self, chosen: Tensor, extras: dict[str, Tensor], info: dict[str, Any]) -> Shard:
        """Make a shard of training nodes as they are, with the edges between them."""
        return node_shard(self.train.induced(chosen), extras, info)

    def read(self, distilled: DistilledSet) -> Nodes:
        """Read the graph of a distilled set."""
        return nodes_of(distilled)

    def draw(self, distilled: DistilledSet, path: Path) -> None:
        """Draw the graph."""
        node_sheet(nodes_of(distilled), distilled.class_names, path)

    @abstractmethod
    def load(self) -> RawNodes:
        """Read or make the graph.

        Raises:
            UserError: If it cannot be had.
        """

    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing.

        Raises:
            UserError: For nodes without features, a graph of one node, and classes without nodes.
        """
        if self._loaded:
            return
        raw = self.load()
        self.classes = raw.classes
        x = self._features(raw)
        utils = require("torch_geometric.utils")
        once = utils.remove_self_loops(raw.edges)[0]
        edges = utils.to_undirected(once, num_nodes=len(x)).long()
        rows = torch.arange(len(x))
        whole = Nodes(x, edges, torch.ones(edges.shape[1]), rows, raw.labels)
        splits = self._split(raw.labels) if raw.splits is None else raw.splits
        for name, positions in zip(SPLITS, splits, strict=True):
            setattr(self, name, whole.select(positions))
        self._finish({item.name: getattr(whole, item.name) for item in fields(whole)}, splits)

    def _features(self, raw: RawNodes) -> Tensor:
        """Return the features of all nodes, float32; refuse a graph that no method could take."""
        count = len(raw.labels)
        if count < 2:
            raise UserError(
                f"The graph of {self.name} has {count} nodes, but there must be two or more: a node has neighbours to learn "
                "from."
            )
        if raw.x is None or not raw.x.numel():
            raise UserError(
                f"Nodes of {self.name} have no features: give them some, e.g. indicators of their degrees."
            )
        if raw.x.ndim != 2 or len(raw.x) != count:
            raise UserError(
                f"{self.name} has {count} labels, but features {tuple(raw.x.shape)}: a row for every node is needed."
            )
        if not bool(torch.isfinite(raw.x).all()):
            raise UserError(f"Nodes of {self.name} have features that are not finite.")
        if raw.edges.numel() and not 0 <= int(raw.edges.min()) <= int(raw.edges.max()) < count:
            raise UserError(f"Edges of {self.name} must join two of its {count} nodes.")
        return raw.x.float()

    def describe(self) -> dict[str, Any]:
        """Return what results record of the dataset, as JSON values; needs :meth:`setup`."""
        sizes = {"nodes": len(self.train.x), "edges": self.train.edges.shape[1] // 2}
        return {**super().describe(), **sizes}
