"""Result files of kinds of their own, such as those of transfer: sealed, named by a hash, read apart from all others."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.files import read_json, read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

_MEND = "Restore it, or run that cell again, which sets it aside."


class SealedRecord:
    """What the records of all kinds have; their fields are those of the dataclasses below it.

    Attributes:
        cell: A dataclass that says what it is called; ``student``, ``seed`` and ``distill_seed`` are among its
            fields, and ``title`` names a run of it.
        config: All that decides the numbers, as JSON values.
        cost: ``seconds`` and ``params``.
        distilled: Facts about the set.
        provenance: See :func:`ddoq.storage.provenance.provenance`.
        created: When, as ISO 8601 in UTC.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    cell: Any
    config: dict[str, Any]
    cost: dict[str, Any]
    distilled: dict[str, Any]
    provenance: dict[str, Any]
    created: str

    @property
    def config_hash(self) -> str:
        """Hash of the configuration."""
        return hash_config(self.config)


Record = TypeVar("Record", bound=SealedRecord)


@dataclass(frozen=True)
class Kind(Generic[Record]):
    """A kind of result files.

    Attributes:
        name: What the files say that they are, e.g. ``ddoq-bench transfer``.
        what: What errors call them.
        format: Of their fields.
        record: The dataclass of a file's values.
        cell: That of its ``cell``.
        order: Fields of the cell by which records are sorted; seeds come last.
        path: Names the file of a hash in an output.
        lock: Names the file that the process that works on it holds a lock on.
        checkpoint: Names the file of the checkpoint of its training.
        is_named: Says whether a file is named as one of them.
    """

    name: str
    what: str
    format: int
    record: type[Record]
    cell: type[Any]
    order: tuple[str, ...]
    path: Callable[[RunFolder, str], Path]
    lock: Callable[[RunFolder, str], Path]
    checkpoint: Callable[[RunFolder, str], Path]
    is_named: Callable[[Path], bool]

    def write(self, path: Path, record: Record) -> None:
        """Write a record with a checksum, atomically."""
        write_sealed(path, {"kind": self.name, "format": self.format, **asdict(record)})

    def find(self, path: Path) -> Record | None:
        """Return a stored result; None where there is none. A damaged one is set aside."""
        return read_or_set_aside(path, self.read)

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
            values["cell"] = self.cell(**values["cell"])
            known = [
                i.name for i in fields(self.record) if i.default is MISSING or i.name in values
            ]
            record = self.record(**{name: values[name] for name in known})
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
        return sorted(records.values(), key=self.rank), problems

    def rank(self, record: Record) -> tuple[Any, ...]:
        """Return by what records are sorted."""
        cell = record.cell
        distill_seed = -1 if cell.distill_seed is None else cell.distill_seed
        names = (getattr(cell, name) for name in self.order)
        return (*names, cell.seed, distill_seed, record.config_hash)

    def _is_one(self, path: Path) -> bool:
        """Say whether a file says, or its name does, that it is of this kind."""
        if self.is_named(path):
            return True
        try:
            values = read_json(path)
        except UserError:
            return False
        return isinstance(values, Mapping) and values.get("kind") == self.name
