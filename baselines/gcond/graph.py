"""A synthetic graph that gradients change: features of its nodes, and a perceptron that makes edges of them."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.graphs.nodes.batch import Nodes
from ddoq.graphs.relaxation import symmetric
from ddoq.seeding import derive_seed

_DROP = 0.1  # of both rates, once; DosCond's code


class PairEdges(nn.Module):
    r"""Weighs the edge of two nodes by their features, :math:`\sigma((f(x_i, x_j) + f(x_j, x_i)) / 2)`, with a perceptron f.

    Args:
        features: Columns of the nodes' features.
        hidden: Width of the perceptron.
        depth: Its layers, at least 2.

    Example:
        >>> weights = PairEdges(3, 8, 2)(torch.randn(4, 3))
        >>> weights.shape, torch.equal(weights, weights.T), weights.diagonal().tolist()
        (torch.Size([4, 4]), True, [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, features: int, hidden: int, depth: int) -> None:
        super().__init__()
        # The first layer of a pair is a sum over its two nodes: so it is taken once for each node, not for each pair.
        self.first = nn.Linear(features, hidden)
        self.second = nn.Linear(features, hidden, bias=False)
        widths = [hidden] * (depth - 1)
        self.rest = nn.ModuleList(nn.Linear(width, hidden) for width in widths[1:])
        self.last = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weights of all edges, symmetric with a zero diagonal, ``(N, N)``, of features ``(N, d)``."""
        pairs = self.first(x)[:, None] + self.second(x)[None]
        for layer in self.rest:
            pairs = layer(pairs.relu())
        weights = symmetric(self.last(pairs.relu())[..., 0]).sigmoid()
        upper = weights.triu(
            1
        )  # mirrored, so that no rounding tells the directions of an edge apart
        return upper + upper.mT


def draw_pair_edges(features: int, hidden: int, depth: int, nodes: int, seed: int) -> PairEdges:
    """Build a perceptron whose weights depend on a seed alone; torch's global generator is left as it was.

    The edges of a node weigh about as much as the node itself at first, all together: were each of them to begin at one half, a
    node would see the mean of all classes and little else.

    Args:
        features: See :class:`PairEdges`, as for the next two.
        hidden: As there.
        depth: As there.
        nodes: Of the graph, at least 2.
        seed: The seed of the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "gcond edges"))
        edges = PairEdges(features, hidden, depth)
    nn.init.constant_(edges.last.bias, -math.log(nodes - 1))  # the logit of 1 / nodes
    return edges


class SyntheticNodes:
    """The nodes of one graph, changed by Adam: features, or the perceptron of their edges.

    Args:
        features: Where they start, float ``(n, d)``.
        labels: int64 ``(n,)``.
        edges: The perceptron, on their device.
        rates: Of features and of the perceptron.
        drop_at: The step from which both rates are a tenth.

    Attributes:
        x: Features, a leaf.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        edges: PairEdges,
        rates: tuple[float, float],
        drop_at: int,
    ) -> None:
        self.x = features.clone().requires_grad_()
        self.labels = labels
        self.edges = edges
        self._drop_at = drop_at
        self._rates = {"x": rates[0], "edges": rates[1]}
        self._optimizers = {
            "x": torch.optim.Adam([self.x]),
            "edges": torch.optim.Adam(edges.parameters()),
        }

    def adjacency(self) -> Tensor:
        """Return the weights of all edges, ``(n, n)``; gradients flow to features and perceptron."""
        weights: Tensor = self.edges(self.x)
        return weights

    def descend(self, loss: Tensor, part: str, step: int) -> None:
        """Take a step down a loss with one part, ``x`` or ``edges``; the other stays."""
        leaves = [self.x] if part == "x" else list(self.edges.parameters())
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        optimizer = self._optimizers[part]
        for group in optimizer.param_groups:
            group["lr"] = self._rates[part] * (_DROP if step >= self._drop_at else 1)
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def sparse(self, threshold: float) -> Nodes:
        """Keep features, and the edges that weigh more than a threshold, with their weights."""
        weights = self.adjacency()
        kept = weights * (weights > threshold)
        return Nodes.of_adjacency(self.x.detach(), kept, self.labels)

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on."""
        optimizers = {part: each.state_dict() for part, each in self._optimizers.items()}
        return {"x": self.x.detach(), "edges": self.edges.state_dict(), "optimizers": optimizers}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        with torch.no_grad():
            self.x.copy_(state["x"])
        self.edges.load_state_dict(state["edges"])
        for part, optimizer in self._optimizers.items():
            optimizer.load_state_dict(dict(state["optimizers"][part]))
