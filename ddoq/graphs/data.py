"""What every dataset of graphs offers: three splits of labelled graphs, features for all nodes, a fingerprint."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ddoq.data import ClassRegistry
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard, WorkItem, class_items
from ddoq.errors import UserError
from ddoq.graphs.base import SPLITS, GraphData
from ddoq.graphs.batches import Graphs, one_hot
from ddoq.graphs.extra import require
from ddoq.graphs.figures import graph_sheet
from ddoq.graphs.sets import FORM, graph_shard, graphs_of

Features = Literal["auto", "given", "degree"]


@dataclass(frozen=True)
class RawGraphs:
    """Graphs as their source has them.

    Attributes:
        x: Features of the nodes of each graph, ``(v_i, d)``, or None where it has none.
        nodes: Nodes of each graph.
        edges: Edges of each, int64 ``(2, e_i)``, in any direction, perhaps twice or from a node to itself.
        labels: int64 ``(n,)``.
        classes: In label order.
        splits: Positions of training, validation and test graphs; None where the source has no split.
    """

    x: Sequence[Tensor | None]
    nodes: Sequence[int]
    edges: Sequence[Tensor]
    labels: Tensor
    classes: ClassRegistry
    splits: tuple[Tensor, Tensor, Tensor] | None = None


class GraphDataModule(GraphData):
    """Labelled graphs: a graph is a sample. Edges have neither direction nor features; loops and repetitions are dropped.

    A subclass sets ``name`` and implements :meth:`load`. Where the source has no split of its own, each class is split at
    random into 80 % training, 10 % validation and 10 % test graphs, at least one of each.

    Args:
        split_seed: Decides that split.
        features: ``given`` takes the nodes' own features, ``degree`` indicators of the number of neighbours, ``auto`` the
            former where there are any, else the latter.
        degrees: Columns of these indicators; larger degrees share the last.
        drop_single_nodes: Leave out graphs of one node, which are refused otherwise.

    Raises:
        UserError: For settings out of their ranges, or without the extra ``graphs``.
    """

    holds = "graphs"
    part = 10
    form = FORM
    stand_in = "ddoq.graphs.Motifs"
    train: Graphs
    val: Graphs
    test: Graphs

    def __init__(
        self,
        split_seed: int = 0,
        features: Features = "auto",
        degrees: int = 64,
        drop_single_nodes: bool = False,
    ) -> None:
        super().__init__(split_seed)
        if features not in ("auto", "given", "degree"):
            raise UserError(f"data.features must be 'auto', 'given' or 'degree', not {features!r}.")
        if not isinstance(degrees, int) or degrees < 2:
            raise UserError(f"data.degrees must be a whole number from 2 on, not {degrees!r}.")
        self.features = features
        self.degrees = degrees
        self.drop_single_nodes = drop_single_nodes

    def work_items(self) -> list[WorkItem]:
        """List one item per class."""
        return class_items(self.num_classes)

    def keep(self, chosen: Tensor, extras: dict[str, Tensor], info: dict[str, Any]) -> Shard:
        """Make a shard of training graphs as they are; all are padded to the largest of the split."""
        nodes, pairs = int(self.train.nodes.max()), int(self.train.edge_counts.max()) // 2
        return graph_shard(self.train.select(chosen), nodes, pairs, extras, info)

    def read(self, distilled: DistilledSet) -> Graphs:
        """Read the graphs of a distilled set."""
        return graphs_of(distilled)

    def draw(self, distilled: DistilledSet, path: Path) -> None:
        """Draw some graphs of each class."""
        graph_sheet(graphs_of(distilled), distilled.class_names, path)

    @abstractmethod
    def load(self) -> RawGraphs:
        """Read or make the graphs.

        Raises:
            UserError: If they cannot be had.
        """

    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing.

        Raises:
            UserError: For graphs without features or with one node, and classes without graphs.
        """
        if self._loaded:
            return
        raw = self.load()
        self.classes = raw.classes
        kept = self._kept(raw)
        graphs = self._whole(raw, kept)
        splits = self._split(graphs.labels) if raw.splits is None else _moved(raw.splits, kept)
        for name, positions in zip(SPLITS, splits, strict=True):
            setattr(self, name, graphs.select(positions))
        tensors = {item.name: getattr(graphs, item.name) for item in fields(graphs)}
        self._finish(tensors, splits)

    def _kept(self, raw: RawGraphs) -> Tensor:
        """Return the positions of graphs with two nodes or more."""
        nodes = torch.tensor(list(raw.nodes))
        if not len(nodes):
            raise UserError(f"{self.name} holds no graph.")
        single = torch.nonzero(nodes < 2).flatten()
        if len(single) and not self.drop_single_nodes:
            raise UserError(
                f"{len(single)} of {len(nodes)} graphs of {self.name} have fewer than two nodes, and no edge to learn, the "
                f"first of them graph {int(single[0])}: set data.init_args.drop_single_nodes to true to leave them out."
            )
        if len(single):
            self.notes.append(f"{len(single)} graphs of fewer than two nodes are left out.")
        return torch.nonzero(nodes > 1).flatten()

    def _whole(self, raw: RawGraphs, kept: Tensor) -> Graphs:
        """Put graphs beside one another, with features for all nodes."""
        utils = require("torch_geometric.utils")
        positions: list[int] = kept.tolist()
        edges = [
            utils.to_undirected(
                utils.remove_self_loops(raw.edges[i])[0], num_nodes=raw.nodes[i]
            ).long()
            for i in positions
        ]
        given = [raw.x[i] for i in positions]
        width = self._given_width(given)
        if width is None:
            blank = [torch.zeros(raw.nodes[i], 1) for i in positions]
            graphs = Graphs.of(blank, edges, raw.labels[kept])
            x = one_hot(graphs.degrees, self.degrees)
            if self.features == "auto":
                self.notes.append(
                    f"Nodes have no features of their own: indicators of their degrees in {self.degrees} columns stand in."
                )
            return Graphs(x, graphs.edges, graphs.owner, graphs.labels)
        return Graphs.of([x for x in given if x is not None], edges, raw.labels[kept])

    def _given_width(self, given: Sequence[Tensor | None]) -> int | None:
        """Return the columns of the nodes' own features; None where degrees are to stand in for them."""
        if self.features == "degree":
            return None
        widths = {0 if x is None else x.shape[1] for x in given}
        if widths == {0} and self.features == "auto":
            return None
        if 0 in widths:
            lacking = next(i for i, x in enumerate(given) if x is None or not x.shape[1])
            raise UserError(
                f"Nodes of {self.name} have no features, first those of graph {lacking}: set data.init_args.features to "
                "'degree' to take indicators of their degrees."
            )
        if len(widths) > 1:
            raise UserError(
                f"Graphs of {self.name} have features of different lengths: {sorted(widths)}."
            )
        if not all(bool(torch.isfinite(x).all()) for x in given if x is not None):
            raise UserError(f"Nodes of {self.name} have features that are not finite.")
        return widths.pop()

    @property
    def mean_nodes(self) -> int:
        """Nodes of a training graph on average, rounded; needs :meth:`setup`."""
        return round(len(self.train.x) / len(self.train))


def _moved(splits: tuple[Tensor, Tensor, Tensor], kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write positions among all graphs as those among the kept ones."""
    train, val, test = (
        torch.searchsorted(kept, positions[torch.isin(positions, kept)]) for positions in splits
    )
    return train, val, test
