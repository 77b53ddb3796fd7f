"""Result files of kinds of their own, such as those of transfer: sealed, named by a hash, read apart from all others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_json, read_sealed, write_sealed
from ddoq.storage.run_folder import RunFolder

_MEND = "Restore it, or run that cell again, which sets it aside."


class Hashed(Protocol):
    """A record with a name of its own."""

    @property
    def config_hash(self) -> str:
        """Hash of all that decides its numbers."""


Record = TypeVar("Record", bound=Hashed)


@dataclass(frozen=True)
class Kind(Generic[Record]):
    """A kind of result files.

    Attributes:
        name: What the files say that they are, e.g. ``ddoq-bench transfer``.
        what: What errors call them.
        format: Of their fields.
        build: Makes a record of a file's values; raises ``KeyError`` or ``TypeError`` for what lacks some.
        path: Names the file of a hash in an output.
        is_named: Says whether a file is named as one of them.
        order: Sorts records.
    """

    name: str
    what: str
    format: int
    build: Callable[[dict[str, Any]], Record]
    path: Callable[[RunFolder, str], Path]
    is_named: Callable[[Path], bool]
    order: Callable[[Record], tuple[Any, ...]]

    def write(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write a record's values with a checksum, atomically."""
        write_sealed(path, {"kind": self.name, "format": self.format, **values})

    def read(self, path: Path) -> Record:
        """Read a result and check it.

        Args:
            path: What :meth:`write` wrote.

        Raises:
            DamagedError: If it is corrupt, edited, incomplete or renamed.
            UserError: If it is of another format.
        """
        values = read_sealed(path)
        if not isinstance(values, dict) or values.pop("kind", None) != self.name:
            raise DamagedError(path, f"is no result of {self.what}", _MEND)
        if values.pop("format", None) != self.format:
            raise UserError(
                f"{path} is a result of {self.what} of another format. Use the version that wrote it."
            )
        try:
            record = self.build(values)
        except (KeyError, TypeError) as error:
            raise DamagedError(path, f"lacks what a result holds ({error})", _MEND) from None
        if path.name != self.path(RunFolder(path.parent), record.config_hash).name:
            raise DamagedError(
                path,
                "does not hash to its own name: its config was edited or the file renamed",
                _MEND,
            )
        return record

    def read_all(self, folder: Path) -> tuple[list[Record], list[str]]:
        """Read all results of this kind below a folder.

        Args:
            folder: Searched with all folders in it, but for those of smoke runs.

        Returns:
            The results, each configuration once, in a fixed order; and a message for every file that was left out.
        """
        records: dict[str, Record] = {}
        problems = []
        for path in sorted(folder.rglob("*.json")):
            if RunFolder.SMOKE in path.relative_to(folder).parts[:-1] or not self._is_one(path):
                continue
            try:
                record = self.read(path)
            except UserError as error:
                problems.append(str(error))
                continue
            records.setdefault(record.config_hash, record)
        return sorted(records.values(), key=self.order), problems

    def _is_one(self, path: Path) -> bool:
        """Say whether a file says, or its name does, that it is of this kind."""
        if self.is_named(path):
            return True
        try:
            values = read_json(path)
        except UserError:
            return False
        return isinstance(values, Mapping) and values.get("kind") == self.name
