"""Methods that keep real graphs, or real nodes of one."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from baselines.graphs import GraphMethod
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.graphs import GraphData, GraphEmbedding, NodeDataModule
from ddoq.seeding import generator_for
from ddoq.selection import herding, k_center


class GraphSelection(GraphMethod[GraphData]):
    """Keeps training graphs of each class, or training nodes with the edges between them."""

    @abstractmethod
    def choose(self, positions: Tensor, label: int) -> Tensor:
        """Select ``ipc`` of the graphs, or nodes, of a class.

        Args:
            positions: int64 ``(n,)``, in the training split.
            label: The class.

        Returns:
            int64 ``(ipc,)``: those positions that are kept, in their order.
        """

    def distill(self, item: WorkItem) -> Shard:
        """Choose those of the classes of an item."""
        members = [self.data.train.of_class(label) for label in item.classes]
        chosen = torch.cat(
            [self.choose(part, label) for part, label in zip(members, item.classes, strict=True)]
        )
        points = sum(map(len, members))
        info = {"indices": chosen.tolist(), "points": points}
        return self.data.keep(chosen, {"indices": chosen}, info)


class GraphRandom(GraphSelection):
    """Keep training graphs of each class, drawn without replacement.

    With one seed the choice for a smaller budget is contained in that for a larger one, in the same order.

    Args:
        ipc: Graphs per class.
        seed: Decides the choice.
    """

    method = "graph-random"

    def choose(self, positions: Tensor, label: int) -> Tensor:
        """Draw them."""
        generator = generator_for(self.seed, self.method, label)
        return positions[torch.randperm(len(positions), generator=generator)[: self.ipc]]


class EmbeddedSelection(GraphSelection):
    """Keeps training graphs, or nodes, by what a network that was trained on all of them sees in each.

    Args:
        ipc: Graphs, or nodes, per class.
        embedding: The network.
        seed: Nothing is drawn; it only tells sets apart that repeat one another.
    """

    def __init__(self, ipc: int, embedding: GraphEmbedding, seed: int = 0) -> None:
        super().__init__(ipc, seed)
        self.embedding = embedding

    def shard_settings(self) -> dict[str, Any]:
        """Leave out the seed, which decides nothing."""
        return {k: v for k, v in super().shard_settings().items() if k != "seed"}

    @abstractmethod
    def select(self, embeddings: Tensor) -> Tensor:
        """Select ``ipc`` rows of embeddings, float32 ``(n, d)``: int64 ``(ipc,)``, in their order."""

    def choose(self, positions: Tensor, label: int) -> Tensor:
        """Embed those of a class, and select by that."""
        graphs = self.data.train.select(positions).to(self.device)
        return positions[self.select(self.embedding.embed(graphs)).cpu()]


class GraphHerding(EmbeddedSelection):
    """Keep graphs one by one, each so that the mean embedding of those kept comes nearest to that of the class.

    Source: M. Welling, *Herding Dynamical Weights to Learn*, ICML 2009; a row of DosCond's tables.
    """

    method = "graph-herding"

    def select(self, embeddings: Tensor) -> Tensor:
        """Match the class mean greedily."""
        return herding(embeddings, self.ipc)


class GraphKCenter(EmbeddedSelection):
    """Keep the graph nearest to the mean embedding of its class, then always the one farthest from those kept.

    Source: O. Sener and S. Savarese, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, ICLR 2018;
    a row of DosCond's tables.
    """

    method = "graph-k-center"

    def select(self, embeddings: Tensor) -> Tensor:
        """Cover the class greedily."""
        return k_center(embeddings, self.ipc)


class NodeRandom(GraphRandom):
    """Keep training nodes of each class, drawn without replacement, and the edges between them.

    With one seed the nodes for a smaller budget are among those for a larger one, in the same order.

    Args:
        ipc: Nodes per class.
        seed: Decides the choice.
    """

    method = "node-random"
    works_on = NodeDataModule


class NodeHerding(GraphHerding):
    """Keep nodes one by one, as :class:`GraphHerding` keeps graphs, and the edges between them; a row of GCond's tables."""

    method = "node-herding"
    works_on = NodeDataModule


class NodeKCenter(GraphKCenter):
    """Keep nodes that leave none of their class far away, as :class:`GraphKCenter` keeps graphs; a row of GCond's tables."""

    method = "node-k-center"
    works_on = NodeDataModule
