"""Synthetic graphs that gradients change: features, and logits of edges."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.graphs.batches import DenseGraphs, Graphs
from ddoq.graphs.relaxation import (
    density,
    discrete_adjacency,
    edge_noise,
    initial_logits,
    relaxed_adjacency,
    temperature_at,
)

_DROP = 0.1  # of both rates, once; official code


class SyntheticGraphs:
    """Graphs of one class and one size, changed by Adam at two rates.

    Args:
        features: Where they start, float ``(n, N, d)``.
        adjacency: The same for edges, ``(n, N, N)`` of 0 and 1.
        label: The class.
        rates: Of features and of edges.
        drop_at: The step from which both rates are a tenth; the optimiser begins anew there, as the official code's does.

    Attributes:
        x: Features, a leaf.
        logits: Of edges, a leaf; their symmetric part counts.
        density: Of edges at the start.
    """

    def __init__(
        self,
        features: Tensor,
        adjacency: Tensor,
        label: int,
        rates: tuple[float, float],
        drop_at: int,
    ) -> None:
        self.x = features.clone().requires_grad_()
        self.logits = initial_logits(adjacency).requires_grad_()
        self.labels = torch.full((len(features),), label, device=features.device)
        self.density = float(density(self.logits.detach()))
        self._rates = rates
        self._drop_at = drop_at
        self._mask = features.new_ones(features.shape[:2], dtype=torch.bool)
        self._dropped = False
        self._optimizer = self._begin()

    def _begin(self) -> torch.optim.Optimizer:
        factor = _DROP if self._dropped else 1.0
        of_x, of_edges = self._rates
        return torch.optim.Adam(
            [
                {"params": [self.x], "lr": factor * of_x},
                {"params": [self.logits], "lr": factor * of_edges},
            ]
        )

    def relaxed(self, step: int, generator: torch.Generator) -> DenseGraphs:
        """Draw soft edges at the temperature of a step; gradients flow to features and logits."""
        count, nodes, _ = self.logits.shape
        noise = edge_noise((count, nodes, nodes), generator).to(self.x.device)
        adjacency = relaxed_adjacency(self.logits, noise, temperature_at(step))
        return DenseGraphs(self.x, adjacency, self._mask, self.labels)

    def surplus(self) -> Tensor:
        """Return by how much edges have become denser than they were at the start; 0 where they have not."""
        return (density(self.logits) - self.density).relu()

    def descend(self, loss: Tensor, step: int) -> None:
        """Take a step down a loss."""
        if step >= self._drop_at and not self._dropped:
            self._dropped = True
            self._optimizer = self._begin()
        leaves = (self.x, self.logits)
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        self._optimizer.step()
        self._optimizer.zero_grad()

    @torch.no_grad()
    def discrete(self) -> Graphs:
        """Keep features, and the edges that are likelier than not."""
        edges = discrete_adjacency(self.logits)
        return DenseGraphs(self.x.detach(), edges, self._mask, self.labels).sparse()

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on."""
        return {
            "x": self.x.detach(),
            "logits": self.logits.detach(),
            "dropped": self._dropped,
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        with torch.no_grad():
            self.x.copy_(state["x"])
            self.logits.copy_(state["logits"])
        self._dropped = bool(state["dropped"])
        self._optimizer = self._begin()
        self._optimizer.load_state_dict(dict(state["optimizer"]))


def first_nodes(x: Tensor, edges: Tensor, count: int) -> Tensor:
    """Choose nodes of a graph that is too large: those that are nearest to the node with most neighbours.

    Args:
        x: Features ``(v, d)``.
        edges: int64 ``(2, e)``, each edge in both directions.
        count: How many nodes to keep, below v.

    Returns:
        int64 ``(count,)``, in the order in which a breadth-first search reaches them; parts that it does not reach follow.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
        >>> first_nodes(torch.zeros(4, 1), path, 3).tolist()
        [1, 0, 2]
    """
    neighbours: list[list[int]] = [[] for _ in range(len(x))]
    for start, end in edges.T.tolist():
        neighbours[start].append(end)
    by_degree = sorted(range(len(x)), key=lambda node: -len(neighbours[node]))
    order: dict[int, None] = {}
    for root in by_degree:
        queue = [root] if root not in order else []
        order |= dict.fromkeys(queue)
        while queue and len(order) < count:
            reached = [n for n in sorted(neighbours[queue.pop(0)]) if n not in order]
            order |= dict.fromkeys(reached)
            queue += reached
    return torch.tensor(list(order)[:count])
