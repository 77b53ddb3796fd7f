"""Classes in layers: what earlier layers say of a class ends where a later one names another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.configuration.keys import KEYS, PARTS
from benchmarks.configuration.shipped import shipped_root
from ddoq.errors import UserError
from ddoq.storage.yaml_text import parse_yaml, read_text

_Place = tuple[str, ...]


@dataclass
class Parts:
    """What layers have said of classes so far.

    Attributes:
        said: The values of the layers, merged.
        written: Places of values that the user wrote, in a file or as an option.
        notes: What of these was dropped, a line each.
    """

    said: dict[str, Any] = field(default_factory=dict)
    written: set[_Place] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, content: Mapping[str, Any], file: Path | None) -> list[dict[str, Any]]:
        """Add a layer.

        Args:
            content: What it says.
            file: Where; None for an option.

        Returns:
            Layers to put before it, which empty the parts that it replaces.

        Raises:
            UserError: If it changes a class that no layer before it names.
        """
        folder = Path() if file is None else file.parent
        parts = {key: _as_part(content[key], folder) for key in PARTS if key in content}
        if file is not None:
            self._check_named(parts, file)
        emptied = []
        for place, earlier in list(_replaced(self.said, parts, ())):
            self._note(place, earlier, _at(parts, place), file)
            emptied.append(_empty(parts, place))
            above = _at(self.said, place[:-1])
            del above[place[-1]]
        _merge(self.said, parts)
        if file is None or not file.resolve().is_relative_to(shipped_root().resolve()):
            self.written |= set(_leaves(parts, ()))
        return emptied

    def _check_named(self, parts: Mapping[str, Any], file: Path) -> None:
        for key, part in parts.items():
            changes = isinstance(part, dict) and "init_args" in part and "class_path" not in part
            if changes and key not in self.said:
                raise UserError(
                    f"{file} changes `{key}` of a file before it, but none before it says of which class: name it "
                    "after the files that do (dataset, method, scale)."
                )

    def _note(
        self, place: _Place, earlier: Mapping[str, Any], later: Mapping[str, Any], file: Path | None
    ) -> None:
        """Say which values of the user's own are dropped with a class and not given again."""
        again = set(_leaves(later, place))
        ended = {path for path in self.written if path[: len(place)] == place}
        self.written -= ended
        lost = sorted(
            ".".join(part for part in path[len(place) :] if part != "init_args")
            for path in ended - again
            if path[-1] != "class_path"
        )
        if lost:
            key = ".".join(part for part in place if part != "init_args")
            self.notes.append(
                f"configuration: {file or 'an option'} makes `{key}` a {later['class_path']}; what was given to "
                f"{earlier['class_path']} before is not handed on: {', '.join(lost)}"
            )


def option(key: str, value: str) -> dict[str, Any]:
    """Say what an option means, from the top-level key on, and refuse one that would be ignored.

    Args:
        key: Its name without dashes.
        value: As typed.

    Raises:
        UserError: If the key belongs into files, the value is empty where a path is meant, or is YAML that no file may hold.

    Example:
        >>> option("model.init_args.ipc", "3"), option("model.ipc", "3")
        ({'model': {'init_args': {'ipc': 3}}}, {'model': {'init_args': {'ipc': 3}}})
    """
    first, *rest = key.removesuffix("+").split(".")
    if first == "extends":
        raise UserError("`extends` is a key of files; here name each file with --config, in order.")
    if KEYS.get(first, KEYS["config"]).folder and not value:
        raise UserError(f"--{key} needs the name of a file or folder.")
    content: Any = parse_value(value, f"--{key}")
    if first in PARTS and rest and rest[0] not in ("class_path", "init_args", "dict_kwargs"):
        rest.insert(0, "init_args")
    for part in reversed(rest):
        content = {part: content}
    return {first: content}


def parse_value(value: str, where: str) -> Any:
    """Read the value of an option; text that is no YAML is text.

    Args:
        value: As typed.
        where: The option, for errors.

    Raises:
        UserError: If it is YAML that no file may hold, such as a mapping with a key twice.
    """
    try:
        return parse_yaml(value, where)
    except UserError as error:
        if "is not valid YAML" in str(error):
            return value
        raise


def _as_part(value: Any, folder: Path) -> Any:
    """Write a class that is given by its name, or by a file of its own, as one with arguments."""
    if not isinstance(value, str):
        return value
    if value.endswith((".yaml", ".yml", ".json")):
        return parse_yaml(read_text(folder / value, "configuration"), folder / value)
    return {"class_path": value}


def _replaced(
    earlier: Mapping[str, Any], later: Mapping[str, Any], place: _Place
) -> Iterator[tuple[_Place, Mapping[str, Any]]]:
    """Find the places at which two layers name different classes, the outermost ones."""
    for key, value in later.items():
        before, here = earlier.get(key), (*place, str(key))
        if not isinstance(value, dict) or not isinstance(before, dict):
            continue
        one, other = before.get("class_path"), value.get("class_path")
        if isinstance(one, str) and isinstance(other, str) and not _same_class(one, other):
            yield here, before
        else:
            yield from _replaced(before, value, here)


def _same_class(one: str, other: str) -> bool:
    """Say whether two names mean one class: it may be named in short, or by where it can be imported."""
    (first, _, short), (second, _, name) = one.rpartition("."), other.rpartition(".")
    return short == name and (
        not first or not second or first.split(".")[0] == second.split(".")[0]
    )


def _at(content: Any, place: _Place) -> Any:
    for key in place:
        content = content[key]
    return content


def _empty(content: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    """Write a layer with nothing at a place; classes on the way there keep their names."""
    key, *rest = place
    if not rest:
        return {key: None}
    inner = content[key]
    kept = {"class_path": inner["class_path"]} if "class_path" in inner else {}
    return {key: {**kept, **_empty(inner, tuple(rest))}}


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = _copy(value)


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def _leaves(content: Any, place: _Place) -> Iterator[_Place]:
    if not isinstance(content, dict) or not content:
        yield place
        return
    for key, value in content.items():
        yield from _leaves(value, (*place, str(key)))
