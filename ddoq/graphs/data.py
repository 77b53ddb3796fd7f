"""What every dataset of graphs offers: three splits of labelled graphs, features for all nodes, a fingerprint."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ddoq.data import ClassRegistry, LabelledData
from ddoq.errors import UserError
from ddoq.graphs.batches import Graphs, one_hot
from ddoq.graphs.extra import require
from ddoq.seeding import check_seed, generator_for
from ddoq.storage.fingerprints import hash_config, hash_tensors

Features = Literal["auto", "given", "degree"]
Metric = Literal["accuracy", "roc-auc"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class RawGraphs:
    """Graphs as their source has them.

    Attributes:
        x: Features of the nodes of each graph, ``(v_i, d)``, or None where it has none.
        nodes: Nodes of each graph.
        edges: Edges of each, int64 ``(2, e_i)``, in any direction, perhaps twice or from a node to itself.
        labels: int64 ``(n,)``.
        classes: In label order.
        splits: Positions of training, validation and test graphs; None where the source has no split.
    """

    x: Sequence[Tensor | None]
    nodes: Sequence[int]
    edges: Sequence[Tensor]
    labels: Tensor
    classes: ClassRegistry
    splits: tuple[Tensor, Tensor, Tensor] | None = None


class GraphDataModule(LabelledData):
    """Labelled graphs: a graph is a sample. Edges have neither direction nor features; loops and repetitions are dropped.

    A subclass sets ``name`` and implements :meth:`load`. Where the source has no split of its own, each class is split at
    random into 80 % training, 10 % validation and 10 % test graphs, at least one of each.

    Args:
        split_seed: Decides that split.
        features: ``given`` takes the nodes' own features, ``degree`` indicators of the number of neighbours, ``auto`` the
            former where there are any, else the latter.
        degrees: Columns of these indicators; larger degrees share the last.
        drop_single_nodes: Leave out graphs of one node, which are refused otherwise.

    Attributes:
        train: Training graphs, after :meth:`setup`; so are ``val`` and ``test``.
        metric: What students are measured by.
        notes: What was done to the graphs, a sentence each.

    Raises:
        UserError: For settings out of their ranges, or without the extra ``graphs``.
    """

    holds = "graphs"
    stand_in = "ddoq.graphs.Motifs"
    metric: Metric = "accuracy"
    train: Graphs
    val: Graphs
    test: Graphs

    def __init__(
        self,
        split_seed: int = 0,
        features: Features = "auto",
        degrees: int = 64,
        drop_single_nodes: bool = False,
    ) -> None:
        super().__init__()
        require("torch_geometric")
        self.split_seed = check_seed("data.split_seed", split_seed)
        if features not in ("auto", "given", "degree"):
            raise UserError(f"data.features must be 'auto', 'given' or 'degree', not {features!r}.")
        if not isinstance(degrees, int) or degrees < 2:
            raise UserError(f"data.degrees must be a whole number from 2 on, not {degrees!r}.")
        self.features = features
        self.degrees = degrees
        self.drop_single_nodes = drop_single_nodes
        self.notes: list[str] = []

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Change nothing: a smoke run takes the dataset as it is, and generated graphs where it is to be synthetic."""
        return {}

    @abstractmethod
    def load(self) -> RawGraphs:
        """Read or make the graphs.

        Raises:
            UserError: If they cannot be had.
        """

    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing.

        Raises:
            UserError: For graphs without features or with one node, and classes without graphs.
        """
        if self._loaded:
            return
        raw = self.load()
        self.classes = raw.classes
        kept = self._kept(raw)
        graphs = self._whole(raw, kept)
        splits = self._split(graphs.labels) if raw.splits is None else _moved(raw.splits, kept)
        for name, positions in zip(SPLITS, splits, strict=True):
            setattr(self, name, graphs.select(positions))
        self._check_classes()
        tensors = {"x": graphs.x, "edges": graphs.edges, "owner": graphs.owner}
        tensors |= {"labels": graphs.labels, **dict(zip(SPLITS, splits, strict=True))}
        self._source = hash_config(
            {name: hash_tensors({name: value}) for name, value in tensors.items()}
        )
        self._loaded = True

    def _kept(self, raw: RawGraphs) -> Tensor:
        """Return the positions of graphs with two nodes or more."""
        nodes = torch.tensor(list(raw.nodes))
        if not len(nodes):
            raise UserError(f"{self.name} holds no graph.")
        single = torch.nonzero(nodes < 2).flatten()
        if len(single) and not self.drop_single_nodes:
            raise UserError(
                f"{len(single)} of {len(nodes)} graphs of {self.name} have fewer than two nodes, and no edge to learn, the "
                f"first of them graph {int(single[0])}: set data.init_args.drop_single_nodes to true to leave them out."
            )
        if len(single):
            self.notes.append(f"{len(single)} graphs of fewer than two nodes are left out.")
        return torch.nonzero(nodes > 1).flatten()

    def _whole(self, raw: RawGraphs, kept: Tensor) -> Graphs:
        """Put graphs beside one another, with features for all nodes."""
        utils = require("torch_geometric.utils")
        positions: list[int] = kept.tolist()
        edges = [
            utils.to_undirected(
                utils.remove_self_loops(raw.edges[i])[0], num_nodes=raw.nodes[i]
            ).long()
            for i in positions
        ]
        given = [raw.x[i] for i in positions]
        width = self._given_width(given)
        if width is None:
            blank = [torch.zeros(raw.nodes[i], 1) for i in positions]
            graphs = Graphs.of(blank, edges, raw.labels[kept])
            x = one_hot(graphs.degrees, self.degrees)
            if self.features == "auto":
                self.notes.append(
                    f"Nodes have no features of their own: indicators of their degrees in {self.degrees} columns stand in."
                )
            return Graphs(x, graphs.edges, graphs.owner, graphs.labels)
        return Graphs.of([x for x in given if x is not None], edges, raw.labels[kept])

    def _given_width(self, given: Sequence[Tensor | None]) -> int | None:
        """Return the columns of the nodes' own features; None where degrees are to stand in for them."""
        if self.features == "degree":
            return None
        widths = {0 if x is None else x.shape[1] for x in given}
        if widths == {0} and self.features == "auto":
            return None
        if 0 in widths:
            lacking = next(i for i, x in enumerate(given) if x is None or not x.shape[1])
            raise UserError(
                f"Nodes of {self.name} have no features, first those of graph {lacking}: set data.init_args.features to "
                "'degree' to take indicators of their degrees."
            )
        if len(widths) > 1:
            raise UserError(
                f"Graphs of {self.name} have features of different lengths: {sorted(widths)}."
            )
        if not all(bool(torch.isfinite(x).all()) for x in given if x is not None):
            raise UserError(f"Nodes of {self.name} have features that are not finite.")
        return widths.pop()

    def _split(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split each class at random."""
        parts: tuple[list[Tensor], ...] = ([], [], [])
        for info in self.classes:
            members = torch.nonzero(labels == info.index).flatten()
            if len(members) < len(SPLITS):
                raise UserError(
                    f"Class '{info.name}' of {self.name} has {len(members)} graphs, but training, validation and test need "
                    "one each: leave the class out of the dataset."
                )
            generator = generator_for(self.split_seed, "graph split", info.index)
            order = members[torch.randperm(len(members), generator=generator)]
            tenth = max(1, round(len(members) / 10))
            cuts = (order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth])
            for part, cut in zip(parts, cuts, strict=True):
                part.append(cut)
        train, val, test = (torch.cat(part).sort().values for part in parts)
        return train, val, test

    def _check_classes(self) -> None:
        """Refuse splits that lack a class: validation and test sets cannot be measured by AUC then."""
        for name in SPLITS:
            labels = getattr(self, name).labels
            counts = torch.bincount(labels, minlength=len(self.classes))
            absent = torch.nonzero(counts == 0).flatten().tolist()
            if absent:
                raise UserError(
                    f"The {name} split of {self.name} has no graph of {len(absent)} of {len(self.classes)} classes, the "
                    f"first of them '{self.classes[absent[0]].name}': leave them out of the dataset, or take another split."
                )

    @property
    def num_features(self) -> int:
        """Columns of the nodes' features; needs :meth:`setup`."""
        return int(self.train.x.shape[1])

    @property
    def mean_nodes(self) -> int:
        """Nodes of a training graph on average, rounded; needs :meth:`setup`."""
        return round(len(self.train.x) / len(self.train))

    def describe(self) -> dict[str, Any]:
        """Return what results record of the dataset, as JSON values; needs :meth:`setup`."""
        return {
            "name": self.name,
            "holds": self.holds,
            "source": self._source,
            "classes": self.classes.fingerprint,
            "num_classes": self.num_classes,
            "num_features": self.num_features,
            "metric": self.metric,
            "train_graphs": len(self.train),
            "val_graphs": len(self.val),
            "test_graphs": len(self.test),
            "notes": self.notes,
        }


def _moved(splits: tuple[Tensor, Tensor, Tensor], kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Write positions among all graphs as those among the kept ones."""
    train, val, test = (
        torch.searchsorted(kept, positions[torch.isin(positions, kept)]) for positions in splits
    )
    return train, val, test
