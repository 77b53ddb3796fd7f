"""Graphs side by side: sparse, as one large graph without edges between them, and dense, as padded matrices."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class Samples(Protocol):
    """What a network on graphs classifies, with labels: :class:`Graphs`, or :class:`ddoq.graphs.nodes.Nodes`."""

    @property
    def x(self) -> Tensor:
        """Features of all nodes, float32 ``(v, d)``."""

    @property
    def edges(self) -> Tensor:
        """Positions in ``x``, each edge in both directions, int64 ``(2, e)``."""

    @property
    def labels(self) -> Tensor:
        """Labels of the samples, int64 ``(n,)``."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of features and edges."""

    def __len__(self) -> int:
        """Count the samples."""

    def of_class(self, label: int) -> Tensor:
        """Return the positions of the samples of a class, int64 ``(m,)``, ascending."""

    def select(self, positions: Tensor) -> Self:
        """Return some of the samples, in the order given, int64 ``(m,)``."""

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""


@dataclass(frozen=True)
class Graphs:
    """Labelled undirected graphs, as one large graph that has no edges between them.

    Attributes:
        x: Features of the nodes, float32 ``(v, d)``, those of a graph behind one another.
        edges: int64 ``(2, e)``: positions in ``x``, each edge in both directions, those of a graph behind one another.
        owner: int64 ``(v,)``, ascending: the graph of each node.
        labels: int64 ``(n,)``.

    Example:
        >>> pair = torch.tensor([[0, 1], [1, 0]])
        >>> two = Graphs.of([torch.zeros(2, 1), torch.ones(3, 1)], [pair, pair], torch.tensor([1, 0]))
        >>> len(two), two.nodes.tolist(), two.edges.tolist()
        (2, [2, 3], [[0, 1, 2, 3], [1, 0, 3, 2]])
        >>> two.select(torch.tensor([1])).edges.tolist()
        [[0, 1], [1, 0]]
    """

    x: Tensor
    edges: Tensor
    owner: Tensor
    labels: Tensor

    @classmethod
    def of(cls, x: Sequence[Tensor], edges: Sequence[Tensor], labels: Tensor) -> "Graphs":
        """Put single graphs beside one another.

        Args:
            x: Features of each, ``(v_i, d)``.
            edges: Edges of each in both directions, int64 ``(2, e_i)``, positions in its own features.
            labels: int64 ``(n,)``.
        """
        nodes = torch.tensor([len(each) for each in x])
        starts = (nodes.cumsum(0) - nodes).tolist()
        shifted = [pairs + start for pairs, start in zip(edges, starts, strict=True)]
        owner = torch.arange(len(nodes)).repeat_interleave(nodes)
        return cls(torch.cat(list(x)).float(), torch.cat(shifted, dim=1).long(), owner, labels)

    def __len__(self) -> int:
        """Count the graphs."""
        return len(self.labels)

    @property
    def nodes(self) -> Tensor:
        """Nodes of each graph, int64 ``(n,)``."""
        return torch.bincount(self.owner, minlength=len(self))

    @property
    def edge_counts(self) -> Tensor:
        """Directed edges of each graph, int64 ``(n,)``."""
        return torch.bincount(self.owner[self.edges[0]], minlength=len(self))

    @property
    def degrees(self) -> Tensor:
        """Neighbours of each node, int64 ``(v,)``."""
        return torch.bincount(self.edges[0], minlength=len(self.x))

    @property
    def stored_bytes(self) -> int:
        """Bytes of features in float32, and of two 32-bit numbers an undirected edge."""
        return 4 * self.x.numel() + 8 * (self.edges.shape[1] // 2)

    def of_class(self, label: int) -> Tensor:
        """Return the positions of the graphs of a class, int64 ``(m,)``, ascending."""
        return torch.nonzero(self.labels == label).flatten()

    def select(self, positions: Tensor) -> "Graphs":
        """Return some of the graphs, in the order given, int64 ``(m,)``."""
        nodes, edges = self.nodes, self.edge_counts
        first = nodes.cumsum(0) - nodes
        rows = _ranges(first[positions], nodes[positions])
        pairs = _ranges((edges.cumsum(0) - edges)[positions], edges[positions])
        counts = nodes[positions]
        shift = (counts.cumsum(0) - counts - first[positions]).repeat_interleave(edges[positions])
        owner = torch.arange(len(positions), device=self.x.device).repeat_interleave(counts)
        return Graphs(self.x[rows], self.edges[:, pairs] + shift, owner, self.labels[positions])

    def single(self, position: int) -> tuple[Tensor, Tensor]:
        """Return features ``(v, d)`` and edges ``(2, e)`` of one graph, positions in its own features."""
        one = self.select(torch.tensor([position], device=self.x.device))
        return one.x, one.edges

    def to(self, device: torch.device | str) -> "Graphs":
        """Copy to a device; a copy that is there already is the same one."""
        return Graphs(*(getattr(self, item.name).to(device) for item in fields(self)))

    def dense(self, size: int | None = None) -> "DenseGraphs":
        """Write the graphs as matrices.

        Args:
            size: Rows of each; as many as the largest graph has nodes where omitted.
        """
        nodes = self.nodes
        width = int(nodes.max()) if size is None else size
        local = torch.arange(len(self.x), device=self.x.device)
        local = local - (nodes.cumsum(0) - nodes)[self.owner]
        x = self.x.new_zeros(len(self), width, self.x.shape[1])
        x[self.owner, local] = self.x
        adjacency = self.x.new_zeros(len(self), width, width)
        start, end = self.edges
        adjacency[self.owner[start], local[start], local[end]] = 1
        mask = torch.arange(width, device=self.x.device) < nodes[:, None]
        return DenseGraphs(x, adjacency, mask, self.labels)


@dataclass(frozen=True)
class DenseGraphs:
    """Labelled graphs as matrices of one size; edges may have any weight.

    Attributes:
        x: float32 ``(n, N, d)``; zero where there is no node.
        adjacency: float32 ``(n, N, N)``, symmetric with a zero diagonal.
        mask: bool ``(n, N)``: where there is a node.
        labels: int64 ``(n,)``.
    """

    x: Tensor
    adjacency: Tensor
    mask: Tensor
    labels: Tensor

    def sparse(self) -> Graphs:
        """Write them as one large graph: an edge wherever the matrix is not zero."""
        start = torch.cumsum(self.mask.flatten().long(), 0) - 1
        place = start.reshape(self.mask.shape)
        graph, row, column = torch.nonzero(self.adjacency, as_tuple=True)
        owner = torch.nonzero(self.mask)[:, 0]
        edges = torch.stack([place[graph, row], place[graph, column]])
        return Graphs(self.x[self.mask], edges, owner, self.labels)


def one_hot(values: Tensor, width: int) -> Tensor:
    """Write whole numbers as indicators; those above the last column share it.

    Args:
        values: int64 ``(v,)``, at least 0.
        width: Columns.

    Example:
        >>> one_hot(torch.tensor([0, 5]), 3).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    indicators: Any = torch.nn.functional.one_hot(values.clamp(max=width - 1), width)
    return indicators.float()  # type: ignore[no-any-return]


def _ranges(starts: Tensor, counts: Tensor) -> Tensor:
    """Put ranges behind one another: ``counts[i]`` numbers from ``starts[i]`` on.

    Example:
        >>> _ranges(torch.tensor([5, 0]), torch.tensor([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    before = counts.cumsum(0) - counts
    total = torch.arange(int(counts.sum()), device=starts.device)
    return total + (starts - before).repeat_interleave(counts)
