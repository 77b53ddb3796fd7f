"""Networks that classify graphs: layers of torch_geometric, a pooling over nodes, a linear layer. Needs the extra ``graphs``."""

import itertools
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import (
    GATConv,
    GCNConv,
    GINConv,
    global_add_pool,
    global_max_pool,
    global_mean_pool,
)

from ddoq.graphs.batches import Graphs

POOLINGS = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}


def gcn_layer(inputs: int, outputs: int) -> nn.Module:
    """Make a layer of T. N. Kipf and M. Welling, ICLR 2017."""
    layer: nn.Module = GCNConv(inputs, outputs)
    return layer


def gin_layer(inputs: int, outputs: int) -> nn.Module:
    """Make a layer of K. Xu et al., ICLR 2019, with a perceptron of two layers."""
    perceptron = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
    layer: nn.Module = GINConv(perceptron)
    return layer


def gat_layer(heads: int) -> Callable[[int, int], nn.Module]:
    """Make layers of P. Velickovic et al., ICLR 2018, whose heads share the outputs."""

    def layer(inputs: int, outputs: int) -> nn.Module:
        made: nn.Module = GATConv(inputs, outputs // heads, heads=heads)
        return made

    return layer


class GraphNetwork(nn.Module):
    """Layers of message passing with ReLU behind each, a pooling over the nodes of a graph, and a linear classifier.

    Args:
        layer: Makes a layer from its widths.
        features: Columns of the nodes' features.
        classes: Number of logits.
        hidden: Width of all layers.
        depth: How many layers.
        pooling: A key of :data:`POOLINGS`.
        dropout: Share of each layer's outputs that is dropped in training.
    """

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        features: int,
        classes: int,
        hidden: int,
        depth: int,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * depth]
        self.convs = nn.ModuleList(layer(a, b) for a, b in itertools.pairwise(widths))
        self.head = nn.Linear(hidden, classes)
        self.pooling = pooling
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all weights anew, from torch's global generator."""
        for layer in (*self.convs, self.head):
            layer.reset_parameters()

    def embed(self, graphs: Graphs) -> Tensor:
        """Return what the classifier sees of graphs, float ``(n, hidden)``."""
        x = graphs.x
        for conv in self.convs:
            x = F.dropout(F.relu(conv(x, graphs.edges)), self.dropout, self.training)
        pooled: Tensor = POOLINGS[self.pooling](x, graphs.owner, len(graphs))
        return pooled

    def forward(self, graphs: Graphs) -> Tensor:
        """Return logits ``(n, classes)``."""
        logits: Tensor = self.head(self.embed(graphs))
        return logits
