"""Networks that classify graphs or nodes: layers of torch_geometric and a linear layer. Needs the extra ``graphs``."""

import itertools
from collections.abc import Callable

import torch
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
from ddoq.graphs.nodes.batch import Nodes

POOLINGS = {"mean": global_mean_pool, "sum": global_add_pool, "max": global_max_pool}


def gcn_layer(inputs: int, outputs: int) -> nn.Module:
    """Make a layer of T. N. Kipf and M. Welling, ICLR 2017."""
    layer: nn.Module = GCNConv(inputs, outputs)
    return layer


def gin_layer(inputs: int, outputs: int) -> nn.Module:
    """Make a layer of K. Xu et al., ICLR 2019, with a perceptron of two layers."""
    layer: nn.Module = GINConv(_perceptron(inputs, outputs))
    return layer


def gat_layer(heads: int) -> Callable[[int, int], nn.Module]:
    """Make layers of P. Velickovic et al., ICLR 2018, whose heads share the outputs."""

    def layer(inputs: int, outputs: int) -> nn.Module:
        made: nn.Module = GATConv(inputs, outputs // heads, heads=heads)
        return made

    return layer


class WeightedGIN(GINConv):
    """A layer as :func:`gin_layer`'s that adds up neighbours by the weights of their edges."""

    def forward(self, x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        """Return ``(v, outputs)`` of features ``(v, inputs)``, edges ``(2, e)`` and weights ``(e,)``."""
        start, end = edges
        summed = torch.zeros_like(x).index_add(0, end, weights[:, None] * x[start])
        out: Tensor = self.nn(summed + (1 + self.eps) * x)
        return out


class UnweightedGAT(GATConv):
    """A layer as :func:`gat_layer`'s: it weighs neighbours itself, whatever the weights of their edges."""

    def forward(self, x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        """Return ``(v, outputs)`` of features ``(v, inputs)`` and edges ``(2, e)``."""
        out: Tensor = super().forward(x, edges)
        return out


def weighted_gin_layer(inputs: int, outputs: int) -> nn.Module:
    """Make a layer as :func:`gin_layer` does, for edges with weights."""
    return WeightedGIN(_perceptron(inputs, outputs))


def unweighted_gat_layer(heads: int) -> Callable[[int, int], nn.Module]:
    """Make layers as :func:`gat_layer` does, for edges whose weights they pass over."""

    def layer(inputs: int, outputs: int) -> nn.Module:
        return UnweightedGAT(inputs, outputs // heads, heads=heads)

    return layer


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))


class Layers(nn.Module):
    """Layers of message passing with ReLU behind each, and a linear classifier.

    Args:
        layer: Makes a layer from its widths.
        features: Columns of the nodes' features.
        classes: Number of logits.
        hidden: Width of all layers.
        depth: How many layers.
        dropout: Share of each layer's outputs that is dropped in training.
    """

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        features: int,
        classes: int,
        hidden: int,
        depth: int,
        dropout: float,
    ) -> None:
        super().__init__()
        widths = [features, *[hidden] * depth]
        self.convs = nn.ModuleList(layer(a, b) for a, b in itertools.pairwise(widths))
        self.head = nn.Linear(hidden, classes)
        self.dropout = dropout

    def reset_parameters(self) -> None:
        """Draw all weights anew, from torch's global generator."""
        for layer in (*self.convs, self.head):
            layer.reset_parameters()

    def pass_messages(self, x: Tensor, *edges: Tensor) -> Tensor:
        """Return what the last layer says of each node, ``(v, hidden)``, from features and what a layer takes of edges."""
        for conv in self.convs:
            x = F.dropout(F.relu(conv(x, *edges)), self.dropout, self.training)
        return x


class GraphNetwork(Layers):
    """Classifies graphs: a pooling over the nodes of each lies before the classifier.

    Args:
        layer: See :class:`Layers`, as for the rest.
        features: As there.
        classes: As there.
        hidden: As there.
        depth: As there.
        dropout: As there.
        pooling: A key of :data:`POOLINGS`.
    """

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        features: int,
        classes: int,
        hidden: int,
        depth: int,
        dropout: float,
        pooling: str,
    ) -> None:
        super().__init__(layer, features, classes, hidden, depth, dropout)
        self.pooling = pooling

    def embed(self, graphs: Graphs) -> Tensor:
        """Return what the classifier sees of graphs, float ``(n, hidden)``."""
        x = self.pass_messages(graphs.x, graphs.edges)
        pooled: Tensor = POOLINGS[self.pooling](x, graphs.owner, len(graphs))
        return pooled

    def forward(self, graphs: Graphs) -> Tensor:
        """Return logits ``(n, classes)``."""
        logits: Tensor = self.head(self.embed(graphs))
        return logits


class NodeNetwork(Layers):
    """Classifies nodes, each by what the last layer says of it; see :class:`Layers`."""

    def embed(self, nodes: Nodes) -> Tensor:
        """Return what the classifier sees of the labelled nodes, float ``(n, hidden)``."""
        return self.pass_messages(nodes.x, nodes.edges, nodes.weights)[nodes.rows]

    def forward(self, nodes: Nodes) -> Tensor:
        """Return logits ``(n, classes)``."""
        logits: Tensor = self.head(self.embed(nodes))
        return logits
