"""Small graphs for tests."""

import torch

from ddoq.data import ClassRegistry
from ddoq.graphs import GraphDataModule, Graphs, Motifs
from ddoq.graphs.data import RawGraphs

RING = torch.tensor([[0, 1, 2], [1, 2, 0]])


class GivenGraphs(GraphDataModule):
    """Graphs as a test gives them."""

    name = "given"

    def __init__(self, raw: RawGraphs, **settings):
        super().__init__(**settings)
        self.raw = raw

    def load(self) -> RawGraphs:
        return self.raw


def raw_graphs(per_class=4, features=2, nodes=3, classes=2) -> RawGraphs:
    """Make rings whose features are noise."""
    generator = torch.Generator().manual_seed(0)
    count = per_class * classes
    x = [torch.randn(nodes, features, generator=generator) for _ in range(count)]
    labels = torch.arange(count) % classes
    names = [f"class {label}" for label in range(classes)]
    return RawGraphs(x, [nodes] * count, [RING] * count, labels, ClassRegistry(names))


def small_motifs(**settings) -> Motifs:
    """Make ten graphs of each of two motifs."""
    data = Motifs(**{"per_class": 10, "nodes": (3, 5), "motifs": ("cycle", "star"), **settings})
    data.setup()
    return data


def random_graphs(count=4, features=3, seed=0) -> Graphs:
    """Draw graphs of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    x, edges = [], []
    for number in range(count):
        nodes = 3 + number
        upper = (torch.rand(nodes, nodes, generator=generator) < 0.5).triu(1)
        x.append(torch.randn(nodes, features, generator=generator))
        edges.append(torch.nonzero(upper | upper.T).T)
    return Graphs.of(x, edges, torch.arange(count) % 2)
