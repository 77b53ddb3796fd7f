"""Checkpoints of items that run in step on all ranks: any number of ranks resumes from the last common step."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ddoq.distillation.ranks import RankGroup
from ddoq.distillation.shard import WorkItem
from ddoq.storage.checkpoints import INTERVAL, Checkpoint


class JointCheckpoint:
    """The state of all items of a run, a file an item and step; all ranks call its methods together.

    A kill may come while some items are saved at a step and others are not yet. So the files of the step before stay
    until all items are saved, and a run resumes from the newest step that every item has.

    Args:
        path: Gives the file for an item and the text of a step; None keeps nothing.
        key: Hash of everything that decides the work.
        items: All items of the run.
        ranks: Those that work in step.
        seconds: Time between two checkpoints; None takes that of :class:`Checkpoint`, 0 saves whenever asked.
        clock: Gives seconds.

    Attributes:
        earlier: Seconds of work on each of this rank's items in processes before this one, once they are loaded.
    """

    def __init__(
        self,
        path: Callable[[WorkItem, str], Path] | None,
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
        self.earlier = [0.0] * len(self._share)

    def due(self) -> bool:
        """Say whether it is time for the next checkpoint; rank 0 decides, so that all ranks say the same."""
        if self._path is None:
            return False
        return bool(self._ranks.from_first(self._clock() - self._saved >= self._seconds))

    def save_step(self, done: int, state: Sequence[Any]) -> None:
        """Save all items after a step, and then remove what was saved before.

        Args:
            done: Steps that are done; the same on all ranks.
            state: Of each of this rank's items all that later steps depend on, see
                :func:`ddoq.storage.checkpoints.flatten`.

        Raises:
            UserError: If a file cannot be written.
        """
        if self._path is None:
            return
        # A rank's seconds are shared by its items alike.
        spent = (self._clock() - self._started) / max(len(self._share), 1)
        for number, part, earlier in zip(self._share, state, self.earlier, strict=True):
            kept = {"seconds": earlier + spent, "item": part}
            self._file(self._items[number], done).save_step(done, kept)
        self._ranks.barrier()
        for number in self._share:
            for old in self._steps(self._items[number]) - {done}:
                self._file(self._items[number], old).clear()
        self._saved = self._clock()

    def load_step(self) -> tuple[int, list[Any]] | None:
        """Read the newest step that all items of the run have, on whichever rank they were saved.

        Returns:
            The steps that are done, and the state of each of this rank's items; None where there is no such step.

        Raises:
            UserError: If a file is of other settings.
        """
        if self._path is None:
            return None
        # Rank 0 reads all files: if one is damaged, all ranks must go back to the same step.
        newest = self._newest_whole() if self._ranks.rank == 0 else None
        done: int | None = self._ranks.from_first(newest)
        self._started = self._saved = self._clock()
        if done is None:
            return None
        states = []
        for index, number in enumerate(self._share):
            loaded = self._file(self._items[number], done).load_step()
            assert loaded is not None
            self.earlier[index] = float(loaded[1]["seconds"])
            states.append(loaded[1]["item"])
        return done, states

    def _newest_whole(self) -> int | None:
        """Return the newest step that all items have; damaged files are set aside."""
        while True:
            steps = [self._steps(item) for item in self._items]
            newest = max(set.intersection(*steps), default=None) if steps else None
            if newest is None:
                return None
            if all(self._file(item, newest).load() is not None for item in self._items):
                return newest

    def _file(self, item: WorkItem, step: int) -> Checkpoint:
        assert self._path is not None
        return Checkpoint(self._path(item, f"{step:09d}"), f"{self._key}-{item.name}", 0)

    def _steps(self, item: WorkItem) -> set[int]:
        assert self._path is not None
        pattern = self._path(item, "*")
        before, after = (len(part) for part in pattern.name.split("*"))
        parts = (file.name[before:-after] for file in pattern.parent.glob(pattern.name))
        return {int(part) for part in parts if part.isdigit()}
