"""Labelled nodes of one graph."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Nodes:
    """Some nodes of one undirected graph, with labels; the graph is whole, whichever of them are selected.

    Attributes:
        x: Features of all nodes of the graph, float32 ``(v, d)``.
        edges: int64 ``(2, e)``: positions in ``x``, each edge in both directions, none from a node to itself.
        weights: Of the edges, float32 ``(e,)``, above 0 and the same in both directions.
        rows: int64 ``(n,)``: the positions of the labelled nodes in ``x``.
        labels: int64 ``(n,)``.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> nodes = Nodes(torch.zeros(3, 1), path, torch.ones(4), torch.tensor([1, 2]), torch.tensor([0, 1]))
        >>> len(nodes), nodes.select(torch.tensor([1])).rows.tolist()
        (2, [2])
        >>> nodes.induced(torch.tensor([1, 0])).edges.tolist()
        [[1, 0], [0, 1]]
    """

    x: Tensor
    edges: Tensor
    weights: Tensor
    rows: Tensor
    labels: Tensor

    @classmethod
    def of_adjacency(cls, x: Tensor, adjacency: Tensor, labels: Tensor) -> "Nodes":
        """Read a graph of labelled nodes from a matrix: an edge wherever it is not zero.

        Args:
            x: Features ``(n, d)``.
            adjacency: Weights of the edges, symmetric with a zero diagonal, float32 ``(n, n)``.
            labels: int64 ``(n,)``.
        """
        edges = torch.nonzero(adjacency).T
        rows = torch.arange(len(x), device=x.device)
        return cls(x, edges, adjacency[edges[0], edges[1]], rows, labels)

    def __len__(self) -> int:
        """Count the labelled nodes."""
        return len(self.labels)

    @property
    def stored_bytes(self) -> int:
        """Bytes of features in float32, of two 32-bit numbers an undirected edge, and of a third where edges differ in weight."""
        each = 8 if bool((self.weights == 1).all()) else 12
        return 4 * self.x.numel() + each * (self.edges.shape[1] // 2)

    def of_class(self, label: int) -> Tensor:
        """Return the positions of the labelled nodes of a class, int64 ``(m,)``, ascending."""
        return torch.nonzero(self.labels == label).flatten()

    def select(self, positions: Tensor) -> "Nodes":
        """Return some of the labelled nodes of the same graph, in the order given, int64 ``(m,)``."""
        return replace(self, rows=self.rows[positions], labels=self.labels[positions])

    def induced(self, positions: Tensor) -> "Nodes":
        """Return the graph that has some of the labelled nodes alone, in the order given, and the edges between them."""
        chosen = self.rows[positions]
        place = torch.full((len(self.x),), -1, device=self.x.device)
        place[chosen] = torch.arange(len(chosen), device=self.x.device)
        moved = place[self.edges]
        kept = (moved >= 0).all(dim=0)
        return Nodes(
            self.x[chosen],
            moved[:, kept],
            self.weights[kept],
            place[chosen],
            self.labels[positions],
        )

    def adjacency(self) -> Tensor:
        """Write the weights of all edges as a matrix, float32 ``(v, v)``."""
        matrix = self.x.new_zeros(len(self.x), len(self.x))
        matrix[self.edges[0], self.edges[1]] = self.weights
        return matrix

    def to(self, device: torch.device | str) -> "Nodes":
        """Copy to a device; a copy that is there already is the same one."""
        return Nodes(*(getattr(self, item.name).to(device) for item in fields(self)))
