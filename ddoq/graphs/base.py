"""What datasets of graphs and datasets of nodes have in common: three splits of labelled samples and a fingerprint."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddoq.data import LabelledData
from ddoq.decoding.form import SetForm
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.graphs.batches import Samples
from ddoq.graphs.build import Task
from ddoq.graphs.extra import require
from ddoq.seeding import check_seed, generator_for
from ddoq.storage.fingerprints import hash_config, hash_tensors

Metric = Literal["accuracy", "roc-auc"]
SPLITS = ("train", "val", "test")


class GraphData(LabelledData):
    """Labelled graphs, or labelled nodes of one graph: what networks on graphs classify.

    Args:
        split_seed: Decides the split where the source has none: each class is cut at random.

    Attributes:
        holds: ``graphs`` or ``nodes``.
        part: One in so many samples of a class is for validation, and another one for the test.
        form: What a set is that is distilled of it.
        train: Training samples, after :meth:`setup`; so are ``val`` and ``test``.
        metric: What students are measured by.
        notes: What was done to the samples, a sentence each.

    Raises:
        UserError: For a seed that is none, or without the extra ``graphs``.
    """

    holds: ClassVar[Task]
    part: ClassVar[int]
    form: ClassVar[SetForm]
    metric: Metric = "accuracy"
    train: Samples
    val: Samples
    test: Samples

    def __init__(self, split_seed: int = 0) -> None:
        super().__init__()
        require("torch_geometric")
        self.split_seed = check_seed("data.split_seed", split_seed)
        self.notes: list[str] = []

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Change nothing: a smoke run takes the dataset as it is, and a generated one where it is to be synthetic."""
        return {}

    @abstractmethod
    def work_items(self) -> list[WorkItem]:
        """List what a method can do independently: a class of graphs; nodes of all classes make one graph."""

    @abstractmethod
    def keep(self, chosen: Tensor, extras: dict[str, Tensor], info: dict[str, Any]) -> Shard:
        """Make a shard of training samples as they are.

        Args:
            chosen: Positions in the training split, int64 ``(n,)``, by ascending label.
            extras: Further tensors to keep.
            info: Further facts for the record.
        """

    @abstractmethod
    def read(self, distilled: DistilledSet) -> Samples:
        """Read the samples of a distilled set.

        Raises:
            UserError: If it holds something else.
        """

    @abstractmethod
    def draw(self, distilled: DistilledSet, path: Path) -> None:
        """Draw a distilled set as a PNG."""

    @property
    def num_features(self) -> int:
        """Columns of the nodes' features; needs :meth:`setup`."""
        return int(self.train.x.shape[1])

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
            **{f"{name}_{self.holds}": len(getattr(self, name)) for name in SPLITS},
            "notes": self.notes,
        }

    def _split(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split each class at random; positions of training, validation and test samples, ascending."""
        parts: tuple[list[Tensor], ...] = ([], [], [])
        for info in self.classes:
            members = torch.nonzero(labels == info.index).flatten()
            if len(members) < len(SPLITS):
                raise UserError(
                    f"Class '{info.name}' of {self.name} has {len(members)} {self.holds}, but training, validation and "
                    "test need one each: leave the class out of the dataset."
                )
            generator = generator_for(self.split_seed, "graph split", info.index)
            order = members[torch.randperm(len(members), generator=generator)]
            count = max(1, round(len(members) / self.part))
            cuts = (order[2 * count :], order[:count], order[count : 2 * count])
            for part, cut in zip(parts, cuts, strict=True):
                part.append(cut)
        train, val, test = (torch.cat(part).sort().values for part in parts)
        return train, val, test

    def _finish(self, tensors: Mapping[str, Tensor], splits: tuple[Tensor, Tensor, Tensor]) -> None:
        """Check the splits, which are set, and take the fingerprint of all tensors."""
        self._check_classes()
        whole = {**tensors, **dict(zip(SPLITS, splits, strict=True))}
        self._source = hash_config(
            {name: hash_tensors({name: value}) for name, value in whole.items()}
        )
        self._loaded = True

    def _check_classes(self) -> None:
        """Refuse splits that lack a class: validation and test sets cannot be measured by AUC then."""
        for name in SPLITS:
            labels = getattr(self, name).labels
            counts = torch.bincount(labels, minlength=len(self.classes))
            absent = torch.nonzero(counts == 0).flatten().tolist()
            if absent:
                raise UserError(
                    f"The {name} split of {self.name} has no {self.holds.removesuffix('s')} of {len(absent)} of "
                    f"{len(self.classes)} classes, the first of them '{self.classes[absent[0]].name}': leave them out of "
                    "the dataset, or take another split."
                )
