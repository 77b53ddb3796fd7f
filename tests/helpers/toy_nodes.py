"""Small graphs of labelled nodes for tests."""

import torch

from ddoq.data import ClassRegistry
from ddoq.graphs import Communities, NodeDataModule, Nodes
from ddoq.graphs.nodes.data import RawNodes

RING = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 0]])


class GivenNodes(NodeDataModule):
    """A graph as a test gives it."""

    name = "given"

    def __init__(self, raw: RawNodes, **settings):
        super().__init__(**settings)
        self.raw = raw

    def load(self) -> RawNodes:
        return self.raw


def raw_nodes(features=2) -> RawNodes:
    """Make a ring of eight nodes of two classes whose features are noise."""
    x = torch.randn(8, features, generator=torch.Generator().manual_seed(0))
    return RawNodes(x, RING, torch.arange(8) % 2, ClassRegistry(["even", "odd"]))


def small_communities(**settings) -> Communities:
    """Make two communities of twelve nodes, of which six are for training."""
    sizes = {"communities": 2, "per_class": 12, "degree": 4.0, "columns": 3}
    data = Communities(**{**sizes, **settings})
    data.setup()
    return data


def random_nodes(count=7, features=3, seed=0) -> Nodes:
    """Draw a graph with weights, whose nodes all have labels, of two classes by turns."""
    generator = torch.Generator().manual_seed(seed)
    upper = torch.rand(count, count, generator=generator).triu(1)
    upper *= upper > 0.5
    x = torch.randn(count, features, generator=generator)
    return Nodes.of_adjacency(x, upper + upper.T, torch.arange(count) % 2)
