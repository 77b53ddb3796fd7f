"""The classes that the labels of a set made elsewhere stand for, in label order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddoq.errors import UserError
from ddoq.escaping import has_surrogate
from ddoq.exchange.record import RECORD
from ddoq.storage.files import read_json

_LONGEST = 60  # letters of a name in a folder's name; file systems stop at 255 bytes


@dataclass(frozen=True)
class ClassList:
    """The classes of a dataset, in label order.

    Attributes:
        names: What people call them.
        keys: Folder names, WordNet ids or ClassLabel names; None where they are not known.
        origin: Where the list comes from, for errors.

    Raises:
        UserError: If it is empty or two classes share a key.
    """

    names: list[str]
    keys: list[str] | None
    origin: str

    def __post_init__(self) -> None:
        """Check that keys tell classes apart."""
        if not self.names:
            raise UserError(f"{self.origin} lists no class.")
        keys = self.names if self.keys is None else self.keys
        twice = sorted({key for key in keys if keys.count(key) > 1}) if repeats(keys) else []
        odd = [text for text in (*self.names, *keys) if has_surrogate(str(text))]
        if odd:
            raise UserError(f"{self.origin}: the class name {odd[0]!a} is not UTF-8.")
        if twice:
            raise UserError(
                f"{self.origin}: two classes are called {twice[0]!r}. Tell them apart by keys: "
                f'a list of {{"key": ..., "name": ...}}.'
            )

    def title(self, label: int) -> str:
        """Name a class for people, with its label."""
        key = "" if self.keys is None or self.keys[label] == self.names[label] else self.keys[label]
        return f"{label} ({key + ', ' if key else ''}{self.names[label]})"


def repeats(values: Sequence[str]) -> bool:
    """Say whether a value appears twice."""
    return len(set(values)) < len(values)


def class_folder(label: int, name: str, num_classes: int) -> str:
    """Name the folder of a class so that sorting the folders as text gives the order of the labels.

    Args:
        label: The label.
        name: What people call the class.
        num_classes: How many there are.

    Returns:
        At least four digits, an underscore and the name, in letters that every file system takes.

    Example:
        >>> class_folder(3, "tabby cat/kitten", 10)
        '0003_tabby_cat_kitten'
    """
    letters = [letter if letter.isascii() and letter.isalnum() else "_" for letter in name]
    short = "_".join(part for part in "".join(letters).split("_") if part)[:_LONGEST].strip("_")
    return f"{label:0{max(4, len(str(num_classes - 1)))}d}_{short or 'class'}"


def read_class_list(path: Path) -> ClassList:
    """Read the classes of a dataset.

    Args:
        path: A distilled set or an export of the same dataset, or a JSON file with a list in label order: of texts
            (names or keys), or of objects with ``key`` and ``name``.

    Returns:
        The classes.

    Raises:
        UserError: If it is neither.
    """
    if path.is_dir():
        record = read_json(path / RECORD)
        names = record.get("class_names") if isinstance(record, dict) else None
        if not isinstance(names, list):
            raise UserError(f"{path / RECORD} has no `class_names`: {path} is no distilled set.")
        inner = record.get("record")
        keys = (inner if isinstance(inner, dict) else record).get("class_keys")
        return ClassList(_texts(path / RECORD, names), keys, str(path))
    if path.suffix != ".json":
        raise UserError(
            f"{path} is neither a distilled set (a folder) nor a JSON file with a list of classes."
        )
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(
            f"{path} must hold a list in label order, of names or of {{key, name}} objects."
        )
    if any(isinstance(entry, dict) for entry in entries):
        for label, entry in enumerate(entries):
            if not isinstance(entry, dict) or not {"key", "name"} <= set(entry):
                raise UserError(f"{path}: class {label} must have a `key` and a `name`.")
        keys = _texts(path, [entry["key"] for entry in entries])
        return ClassList(_texts(path, [entry["name"] for entry in entries]), keys, str(path))
    return ClassList(_texts(path, entries), None, str(path))


def _texts(path: Path, values: Sequence[Any]) -> list[str]:
    for label, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{path}: class {label} is called {value!r}, which is no text.")
    return list(values)
