"""A generated graph that needs no network: communities, which are the classes, with features that say little of them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.bounds import check_number
from ddoq.data import ClassRegistry
from ddoq.errors import UserError
from ddoq.graphs.nodes.data import NodeDataModule, RawNodes
from ddoq.seeding import check_seed, generator_for
from ddoq.smoke import lower


class Communities(NodeDataModule):
    r"""A contextual stochastic block model: two nodes are joined the likelier if they share a community.

    Features are noise around a centre for each community, :math:`x_i \sim N(\mu_{c_i}, I)` with centres of length
    ``signal`` in random directions at right angles. With the defaults the best answer that looks at a node's features
    alone is right for 0.53 of the nodes; their neighbours tell the rest.

    The model is that of Y. Deshpande et al., *Contextual Stochastic Block Models*, NeurIPS 2018, with several
    communities; sizes are ours.

    Args:
        communities: How many, each a class.
        per_class: Nodes of each, before the split.
        degree: Neighbours of a node on average.
        homophily: Share of them, on average, that are of its own community.
        columns: Length of the features, at least the number of communities.
        signal: Length of the centres, in standard deviations of the noise.
        seed: Decides the graph.
        split_seed: See :class:`NodeDataModule`.

    Raises:
        UserError: If a number is out of its range.
    """

    name = "communities"

    def __init__(
        self,
        communities: int = 4,
        per_class: int = 300,
        degree: float = 8.0,
        homophily: float = 0.7,
        columns: int = 32,
        signal: float = 1.0,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(split_seed)
        floors = {"communities": (communities, 2), "per_class": (per_class, 3)}
        for name, (value, floor) in {**floors, "columns": (columns, communities)}.items():
            if not isinstance(value, int) or value < floor:
                raise UserError(
                    f"data.{name} must be a whole number from {floor} on, not {value!r}."
                )
        check_number("data.degree", degree, above=0)
        check_number("data.homophily", homophily, at_least=0, at_most=1)
        check_number("data.signal", signal, at_least=0)
        self.communities = communities
        self.per_class = per_class
        self.columns = columns
        self.signal = signal
        self.seed = check_seed("data.seed", seed)
        # Of a node with those of its own community, and with all others.
        self.inside = degree * homophily / (per_class - 1)
        self.outside = degree * (1 - homophily) / (per_class * (communities - 1))
        if max(self.inside, self.outside) > 1:
            raise UserError(
                f"data.degree is {degree}, but with data.homophily {homophily} a node has not so many others of one kind to be "
                "joined with: lower it, or raise data.per_class."
            )

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make forty nodes of each community."""
        count = lower(given.get("per_class", 40), 40)
        return {"per_class": count, "degree": min(float(given.get("degree", 4.0)), 4.0)}

    def load(self) -> RawNodes:
        """Draw centres, noise and edges, each from a generator of its own."""
        labels = torch.arange(self.communities).repeat_interleave(self.per_class)
        directions = torch.randn(
            self.columns, self.communities, generator=generator_for(self.seed, "centres")
        )
        centres = torch.linalg.qr(directions)[0].T * self.signal
        noise = generator_for(self.seed, "community features")
        x = centres[labels] + torch.randn(len(labels), self.columns, generator=noise)
        edges = block_edges(
            labels, self.inside, self.outside, generator_for(self.seed, "community edges")
        )
        names = [f"community {number}" for number in range(self.communities)]
        return RawNodes(x, edges, labels, ClassRegistry(names))


def block_edges(
    labels: Tensor, inside: float, outside: float, generator: torch.Generator
) -> Tensor:
    """Join each pair of nodes with a probability that depends on whether their labels are the same.

    Args:
        labels: int64 ``(v,)``.
        inside: Probability of an edge within a label.
        outside: Between two.
        generator: On the CPU.

    Returns:
        Edges in one direction, int64 ``(2, e)``.

    Example:
        >>> block_edges(torch.tensor([0, 1, 0]), 1.0, 0.0, torch.Generator().manual_seed(0)).tolist()
        [[0], [2]]
    """
    same = labels[:, None] == labels
    chance = torch.where(same, inside, outside)
    drawn = torch.rand(len(labels), len(labels), generator=generator) < chance
    return torch.nonzero(drawn.triu(1)).T
