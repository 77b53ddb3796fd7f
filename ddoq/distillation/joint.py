"""Checkpoints of items that run in step on all ranks: any number of ranks resumes from the last common step."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ddoq.distillation.ranks import RankGroup
from ddoq.distillation.shard import WorkItem
from ddoq.storage.checkpoints import INTERVAL, Checkpoint

Saved = tuple[dict[str, Tensor], dict[str, Any]]  # tensors and JSON values of one item


class JointCheckpoint:
    """The state of all items of a run, a file an item and step; all ranks call its methods together.

    A kill may come while some items are saved at a step and others are not yet. So the files of the step before stay
    until all items are saved, and a run resumes from the newest step that every item has.

    Args:
        path: Gives the file of a checkpoint by its name, for names that begin with that of an item; None keeps nothing.
        key: Hash of everything that decides the work.
        items: All items of the run.
        ranks: Those that work in step.
        seconds: Time between two checkpoints; None takes that of :class:`Checkpoint`, 0 saves whenever asked.
        clock: Gives seconds.
    """

    def __init__(
        self,
        path: Callable[[str], Path] | None,
        key: str,
        items: Sequence[WorkItem],
        ranks: RankGroup = RankGroup(),  # noqa: B008 - frozen
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._key = key
        self._items = items
        self._ranks = ranks
        self._share = ranks.share(len(items))
        self._seconds = INTERVAL if seconds is None else seconds
        self._clock = clock
        self._started = self._saved = clock()
        self._earlier = [0.0] * len(self._share)

    @property
    def seconds(self) -> list[float]:
        """Seconds of work of each of this rank's items, those before a kill included: equal parts of the rank's."""
        now = (self._clock() - self._started) / max(len(self._share), 1)
        return [earlier + now for earlier in self._earlier]

    def due(self) -> bool:
        """Say whether it is time for the next checkpoint; rank 0 decides, so that all ranks say the same."""
        if self._path is None:
            return False
        return bool(self._ranks.from_first(self._clock() - self._saved >= self._seconds))

    def save(
        self,
        step: int,
        tensors: Sequence[Mapping[str, Tensor]],
        states: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Save all items after a step, and then remove what was saved before.

        Args:
            step: Steps that are done; the same on all ranks.
            tensors: Of each of this rank's items.
            states: JSON values of each of them.

        Raises:
            UserError: If a file cannot be written.
        """
        if self._path is None:
            return
        states = [{}] * len(self._share) if states is None else states
        for number, part, state, spent in zip(
            self._share, tensors, states, self.seconds, strict=True
        ):
            self._file(self._items[number], step).save(part, {"seconds": spent, "state": state})
        self._ranks.barrier()
        for number in self._share:
            for old in self._steps(self._items[number]):
                if old != step:
                    self._file(self._items[number], old).clear()
        self._saved = self._clock()

    def load(self) -> tuple[int, list[Saved]] | None:
        """Read the newest step that all items of the run have, on whichever rank they were saved.

        Returns:
            The step, and tensors and state of each of this rank's items; None where there is no such step.

        Raises:
            UserError: If a file is damaged, or of other settings.
        """
        if self._path is None:
            return None
        steps = [self._steps(item) for item in self._items]
        step: int | None = self._ranks.from_first(
            max(set.intersection(*steps), default=None) if steps else None
        )
        self._started = self._saved = self._clock()
        if step is None:
            return None
        loaded = []
        for index, number in enumerate(self._share):
            saved = self._file(self._items[number], step).load()
            assert saved is not None
            tensors, state = saved
            self._earlier[index] = float(state["seconds"])
            loaded.append((tensors, dict(state["state"])))
        return step, loaded

    def _file(self, item: WorkItem, step: int) -> Checkpoint:
        assert self._path is not None
        return Checkpoint(self._path(f"{item.name}.{step:09d}"), f"{self._key}-{item.name}", 0)

    def _steps(self, item: WorkItem) -> set[int]:
        assert self._path is not None
        pattern = self._path(f"{item.name}.*")
        names = (file.name for file in pattern.parent.glob(pattern.name))
        return {int(name.removeprefix(f"{item.name}.").split(".")[0]) for name in names}
