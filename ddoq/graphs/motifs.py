"""Generated graphs that need no network: a motif, which is the class, attached to a random base."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor

from ddoq.data import ClassRegistry
from ddoq.errors import UserError, suggest
from ddoq.graphs.data import Features, GraphDataModule, RawGraphs
from ddoq.seeding import check_seed, generator_for
from ddoq.smoke import lower

Base = Literal["tree", "barabasi-albert"]
_ATTACHED: Final = 2  # edges that a new node of a Barabasi-Albert base brings
# Each motif by its edges; the base is attached to node 0.
MOTIFS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "cycle": ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)),
    "house": ((0, 1), (1, 2), (2, 3), (3, 0), (0, 4), (1, 4)),
    "star": ((0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6)),
    "clique": tuple((a, b) for a in range(5) for b in range(a)),
}


class Motifs(GraphDataModule):
    """Random graphs that hold a motif each: a ring of six, a house, a star of six rays or a clique of five.

    The idea is that of the motif datasets of R. Ying et al., *GNNExplainer*, NeurIPS 2019; sizes are ours. Nodes are
    shuffled and have no features of their own, so that indicators of their degrees stand in.

    Args:
        per_class: Graphs of each class, before the split.
        base: ``tree``: each new node is tied to a random earlier one. ``barabasi-albert``: to two, the likelier the more
            neighbours they have.
        nodes: Least and largest number of nodes of the base.
        motifs: Which motifs, in label order.
        seed: Decides the graphs.
        split_seed: See :class:`GraphDataModule`, as for the rest.
        features: As there; motifs have none of their own.
        degrees: As there.

    Raises:
        UserError: If a number is out of its range, or a motif unknown.
    """

    name = "motifs"

    def __init__(
        self,
        per_class: int = 100,
        base: Base = "tree",
        nodes: tuple[int, int] = (8, 16),
        motifs: Sequence[str] = tuple(MOTIFS),
        seed: int = 0,
        split_seed: int = 0,
        features: Features = "auto",
        degrees: int = 10,
    ) -> None:
        super().__init__(split_seed, features, degrees)
        if not isinstance(per_class, int) or per_class < 1:
            raise UserError(f"data.per_class must be a whole number from 1 on, not {per_class!r}.")
        if base not in get_args(Base):
            raise UserError(
                f"data.base: there is no base {base!r}. {suggest(base, get_args(Base))}"
            )
        low, high = nodes
        if not _ATTACHED < low <= high:
            raise UserError(
                f"data.nodes must be two whole numbers, {_ATTACHED + 1} or more and in order, not {list(nodes)}."
            )
        for motif in motifs:
            if motif not in MOTIFS:
                raise UserError(
                    f"data.motifs: there is no motif {motif!r}. {suggest(motif, MOTIFS)}"
                )
        if len(motifs) < 2 or len(set(motifs)) < len(motifs):
            raise UserError(f"data.motifs must be two or more, each once, not {list(motifs)}.")
        self.per_class = per_class
        self.base: Base = base
        self.sizes = (low, high)
        self.motifs = tuple(motifs)
        self.seed = check_seed("data.seed", seed)

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make ten graphs of each class."""
        return {"per_class": lower(given.get("per_class", 10), 10)}

    def load(self) -> RawGraphs:
        """Draw all graphs, each from a generator of its own."""
        edges, sizes, labels = [], [], []
        for label, motif in enumerate(self.motifs):
            for number in range(self.per_class):
                generator = generator_for(self.seed, "motifs", motif, number)
                pairs, count = motif_graph(motif, self.base, self.sizes, generator)
                edges.append(pairs)
                sizes.append(count)
                labels.append(label)
        return RawGraphs(
            [None] * len(sizes),
            sizes,
            edges,
            torch.tensor(labels),
            ClassRegistry(list(self.motifs)),
        )


def motif_graph(
    motif: str, base: Base, nodes: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, int]:
    """Draw a base, attach a motif to it by one edge, and shuffle the nodes.

    Args:
        motif: A key of :data:`MOTIFS`.
        base: See :class:`Motifs`.
        nodes: Least and largest number of nodes of the base.
        generator: On the CPU.

    Returns:
        Edges in one direction, int64 ``(2, e)``, and the number of nodes.
    """

    def below(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    count = nodes[0] + below(nodes[1] - nodes[0] + 1)
    pairs = list(_tree(count, below) if base == "tree" else _preferential(count, below))
    shift = [(a + count, b + count) for a, b in MOTIFS[motif]]
    pairs += [*shift, (below(count), count)]
    total = 1 + max(max(pair) for pair in pairs)
    order = torch.randperm(total, generator=generator)
    return order[torch.tensor(pairs).T], total


def _tree(count: int, below: Any) -> list[tuple[int, int]]:
    """Tie each node to a random earlier one."""
    return [(below(node), node) for node in range(1, count)]


def _preferential(count: int, below: Any) -> list[tuple[int, int]]:
    """Tie each node to two earlier ones, the likelier the more neighbours they have; the first three are a triangle."""
    pairs = [(0, 1), (1, 2), (2, 0)]
    for node in range(3, count):
        ends = [end for pair in pairs for end in pair]
        chosen: list[int] = []
        while len(chosen) < _ATTACHED:
            end = ends[below(len(ends))]
            if end not in chosen:
                chosen.append(end)
        pairs += [(end, node) for end in chosen]
    return pairs
