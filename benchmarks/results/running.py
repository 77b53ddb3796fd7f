"""Runs of cells whose results have a kind of their own: each once, resumable, a file each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmarks.results.sealed import Kind, Record
from ddoq.console import say
from ddoq.finite import NotFiniteError
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.locks import locked
from ddoq.storage.run_folder import RunFolder

Place = TypeVar("Place")


class SealedRun(ABC, Generic[Place, Record]):
    """The cells of one set, say; a subclass says which there are, and evaluates one.

    Attributes:
        kind: Of the results.
        noun: What messages call a result.
        output: Root of the results.
    """

    kind: Kind[Record]
    noun: str = "result"
    output: Path

    @abstractmethod
    def places(self) -> Sequence[Place]:
        """List all cells, in the order in which they are run."""

    @abstractmethod
    def config(self, place: Place) -> dict[str, Any]:
        """Return all that decides the numbers of a cell, as JSON values."""

    @abstractmethod
    def name(self, place: Place) -> str:
        """Say what messages call a cell."""

    @abstractmethod
    def evaluate(self, place: Place, key: str) -> Record:
        """Make the result of a cell.

        Args:
            place: Which.
            key: Hash of its configuration.

        Raises:
            NotFiniteError: If a training diverges.
        """

    @abstractmethod
    def summary(self, place: Place, record: Record) -> str:
        """Say in a line what came out."""

    def path(self, place: Place) -> Path:
        """Name the result file of a cell."""
        return self.kind.path(RunFolder(self.output), hash_config(self.config(place)))

    def checkpoint(self, key: str) -> Checkpoint:
        """Return the checkpoint of a training.

        Args:
            key: Hash of all that decides it.
        """
        return Checkpoint(self.kind.checkpoint(RunFolder(self.output), key), key)

    def records(self) -> list[Record]:
        """Read the results of all cells that have one."""
        stored = (self.kind.find(self.path(place)) for place in self.places())
        return [record for record in stored if record is not None]

    def run(
        self,
        rank: int = 0,
        world_size: int = 1,
        *,
        force: bool = False,
        made: Callable[[Record], object] | None = None,
    ) -> list[str]:
        """Run a share of the cells; what is stored is reused.

        Args:
            rank: Which share.
            world_size: How many shares.
            force: Run again what is stored.
            made: Called with every record that is new.

        Returns:
            A message for every cell that diverged.
        """
        failures = []
        for place in self.places()[rank::world_size]:
            try:
                record = self._make(place, force)
            except NotFiniteError as error:
                failures.append(f"{self.name(place)}: {error}")
                print(f"failed: {self.name(place)}: {error}", flush=True)
                continue
            if record is not None and made is not None:
                made(record)
        return failures

    def _make(self, place: Place, force: bool) -> Record | None:
        """Make a result, and return it; None where it is there."""
        path, key = self.path(place), hash_config(self.config(place))
        if not force and self.kind.find(path) is not None:
            return None
        waiting = f"waiting for {self.name(place)}: another process works on it"
        with locked(self.kind.lock(RunFolder(self.output), key), waiting):
            if not force and self.kind.find(path) is not None:
                return None
            record = self.evaluate(place, key)
            self.kind.write(path, record)
            say(self.summary(place, record))
            return record
