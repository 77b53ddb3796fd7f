"""Where a run works, and what it keeps of items that are not done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ddoq.distillation.joint import JointCheckpoint
from ddoq.distillation.ranks import RankGroup
from ddoq.distillation.shard import WorkItem
from ddoq.storage.checkpoints import INTERVAL, Checkpoint
from ddoq.storage.run_folder import RunFolder


@dataclass
class _Begun:
    """What has been begun of the items that are worked on.

    Attributes:
        ranks: Those that work in step; for an item that does not depend on others, this one alone.
        checkpoints: Those that were asked for, by file.
        joint: Those of joint items that were asked for, by scope.
    """

    ranks: RankGroup = field(default_factory=RankGroup)
    checkpoints: dict[Path, Checkpoint] = field(default_factory=dict)
    joint: dict[str, JointCheckpoint] = field(default_factory=dict)


@dataclass
class Run:
    """Where a run works, and under which key.

    Attributes:
        folder: The output folder.
        key: Hash of everything that decides the shards.
        seconds: Time between two checkpoints.
        scope: Ends the names of checkpoints, where a wrapper runs several distillers inside.
    """

    folder: RunFolder
    key: str
    seconds: float = INTERVAL
    scope: str = ""
    _begun: _Begun = field(default_factory=_Begun)

    @property
    def ranks(self) -> RankGroup:
        """Those that work in step on what is done now."""
        return self._begun.ranks

    def scoped(self, name: str) -> "Run":
        """Return the same run for a distiller inside of it, whose checkpoints get names of their own."""
        return replace(self, scope=f"{self.scope}.{name}")

    def begin(self, ranks: RankGroup) -> None:
        """Begin an item, or all joint ones."""
        self._begun.ranks = ranks
        self._begun.checkpoints.clear()
        self._begun.joint.clear()

    def checkpoint(self, item: WorkItem) -> Checkpoint:
        """Return the checkpoint of an item, the same one whenever it is asked for."""
        path = self._path(item)
        if path not in self._begun.checkpoints:
            key = f"{self.key}-{item.name}{self.scope}"
            self._begun.checkpoints[path] = Checkpoint(path, key, self.seconds)
        return self._begun.checkpoints[path]

    def joint_checkpoint(self, items: Sequence[WorkItem]) -> JointCheckpoint:
        """Return the checkpoint of joint items, the same one whenever it is asked for."""
        if self.scope not in self._begun.joint:
            self._begun.joint[self.scope] = JointCheckpoint(
                self._path, f"{self.key}{self.scope}", items, self.ranks, self.seconds
            )
        return self._begun.joint[self.scope]

    def earlier_seconds(self, index: int = 0, of: int = 1) -> float:
        """Return the seconds of work before this process, as far as they were saved.

        Args:
            index: Which of this rank's joint items is asked about.
            of: How many joint items this rank has; what was done of one by one is shared by them alike.
        """
        alone = sum(checkpoint.earlier for checkpoint in self._begun.checkpoints.values()) / of
        return alone + sum(checkpoint.earlier[index] for checkpoint in self._begun.joint.values())

    def clear(self, item: WorkItem) -> None:
        """Remove what was kept of an item whose shard is written: all whose names go on after its own with a dot."""
        pattern = self.folder.checkpoint(self.key, f"{item.name}.*")
        left = [self.folder.checkpoint(self.key, item.name), *pattern.parent.glob(pattern.name)]
        for path in {*left, *self._begun.checkpoints}:
            Checkpoint(path, self.key).clear()

    def _path(self, item: WorkItem, step: str = "") -> Path:
        """Return the file of a checkpoint, beside the shards."""
        return self.folder.checkpoint(self.key, f"{item.name}{self.scope}{step and '.'}{step}")


class Unsaved(Checkpoint):
    """Stands in for a checkpoint where nothing is kept: for an item that is done outside of a run."""

    def __init__(self) -> None:
        super().__init__(Path("unsaved"), "")

    def due(self) -> bool:
        """Never be due."""
        return False

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save nothing."""

    def load(self) -> None:
        """Find nothing."""

    def clear(self) -> None:
        """Remove nothing."""
