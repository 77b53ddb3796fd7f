"""Layered configurations: files that extend others, and files that belong to a dataset and a method together."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.configuration.keys import RECORDS
from benchmarks.configuration.parts import Parts, option
from benchmarks.configuration.shipped import FOLDER, is_overlaid, locate, locate_beside
from ddoq.errors import UserError
from ddoq.storage.yaml_text import parse_yaml, read_text

CONFIG = ("--config", "-c")  # the options that name a file

# (folder of one layer, folder of the other, what holds for both): `datasets/digits.yaml` and `methods/sre2l.yaml` of one
# folder bring `papers/digits/sre2l.yaml` with them, where there is one.
_PAIRS = (
    ("datasets", "methods", "papers/{0}/{1}.yaml"),
    ("scales", "methods", "scales/{0}/{1}.yaml"),
)


def expand(arguments: Sequence[str], notes: list[str] | None = None) -> list[str]:
    """Replace every ``--config`` by the files it stands for, so that later layers win as a user expects.

    - A file of ``configs/`` that is not there is the one that comes with the installation.
    - A file with ``extends: [base.yaml]`` (paths relative to itself) stands for these files, in order, followed by itself.
    - Files that belong to two layers together are read after both; see :func:`layers`.
    - Students replace those of earlier layers. Of two lists of equal length the parser would merge the entries: the second
      student would inherit, say, the stem of the first one. An empty list is put between them.
    - A layer that names another class for a part (method, dataset, prior, teacher, or a part of these) replaces the part as a
      whole: no argument of the earlier class is handed to the new one.
    - Overrides of a recipe add up over files that name the same recipe, or none; the parser would keep the last file's.

    Args:
        arguments: Command-line arguments.
        notes: Receives a line for every class whose arguments, of the user's own files or options, were dropped so.

    Returns:
        What a user could have typed without any of this.

    Raises:
        UserError: If a file is missing, is no YAML mapping, extends itself, or changes a class that no file before it names.
    """
    writer = _Writer()
    for item in _with_pairs(list(_items(arguments))):
        writer.write(item)
    if notes is not None:
        notes += writer.parts.notes
    return writer.arguments


def paired(arguments: Sequence[str]) -> list[Path]:
    """List the files that nobody named: those that :func:`expand` adds since they belong to two layers together."""
    return [pair for _, pair in _pairs(list(_items(arguments)))]


def named(arguments: Sequence[str]) -> list[Path]:
    """List the files that the options name, with those that these extend."""
    return [item for item in _items(arguments) if isinstance(item, Path)]


def layers(paths: Iterable[Path]) -> list[Path]:
    """List the files that several configurations stand for, in the order in which they are read.

    The last file of a folder ``datasets`` and the last one of the folder ``methods`` beside it bring
    ``papers/<dataset>/<method>.yaml`` with them, read after both, where that file exists; the last one of ``scales`` and
    that of ``methods`` bring ``scales/<scale>/<method>.yaml``.

    Args:
        paths: YAML files, as several ``--config`` name them.

    Returns:
        The files.

    Raises:
        UserError: As :func:`resolve`.
    """
    files: list[Path | str] = [file for path in paths for file in resolve(path)]
    return [file for file in _with_pairs(files) if isinstance(file, Path)]


def resolve(path: Path, parents: tuple[Path, ...] = ()) -> list[Path]:
    """List the files that one configuration stands for by what it extends.

    Args:
        path: A YAML file.
        parents: The files that led here.

    Returns:
        The files, ``path`` last, each once; see :func:`benchmarks.configuration.shipped.locate`.

    Raises:
        UserError: If a file is missing, is no YAML mapping, or extends itself.
    """
    path = locate(path)
    if path.resolve() in parents:
        raise UserError(f"{path} extends itself.")
    by = f" (named by {parents[-1]})" if parents else ""
    bases = read_layer(path, by).get("extends", [])
    if not isinstance(bases, list) or not all(base and isinstance(base, str) for base in bases):
        raise UserError(f"`extends` in {path} must be a list of file names.")
    files: list[Path] = []
    for base in bases:
        below = resolve(locate_beside(path, base), (*parents, path.resolve()))
        files += [file for file in below if file not in files]
    return [*files, path]


def read_layer(path: Path, by: str = "") -> dict[str, Any]:
    """Read one file, without what it extends.

    Args:
        path: A YAML file.
        by: Ends the error where there is no such file.

    Returns:
        Its keys and values.

    Raises:
        UserError: If it is missing, or is no YAML mapping; see :func:`ddoq.storage.yaml_text.parse_yaml`.
    """
    content = parse_yaml(read_text(path, "configuration", by), path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, like `data: ...`.")
    return content


def _items(arguments: Sequence[str]) -> Iterator[Path | str]:
    """Split arguments into configuration files, those they extend first, and everything else."""
    rest = iter(arguments)
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag in CONFIG:
            file = value or next(rest, "")
            if not file:
                raise UserError(f"{flag} needs the name of a YAML file.")
            yield from resolve(Path(file))
        else:
            yield argument


def _with_pairs(items: list[Path | str]) -> list[Path | str]:
    """Insert what belongs to two layers together directly behind the later one."""
    inserted: dict[int, list[Path]] = {}
    for place, pair in _pairs(items):
        inserted.setdefault(place, []).extend(resolve(pair))
    return [part for i, item in enumerate(items) for part in (item, *inserted.get(i, ()))]


def _pairs(items: Sequence[Path | str]) -> Iterator[tuple[int, Path]]:
    """Find the files that belong to two layers, each with the place of the later one."""
    for one, other, pattern in _PAIRS:
        first, second = _last(items, one), _last(items, other)
        if first is None or second is None:
            continue
        roots = [_root(items[first]), _root(items[second])]
        tail = pattern.format(*(Path(items[i]).stem for i in (first, second)))
        for pair in _places(roots, tail):
            if pair.is_file():
                yield max(first, second), pair
                break


def _places(roots: Sequence[Path], tail: str) -> list[Path]:
    """List where a file of two layers may be, by the folders of the two: the first that is there counts."""
    if roots[0].resolve() == roots[1].resolve() == Path(FOLDER).resolve():
        return [roots[0] / tail, locate(Path(FOLDER) / tail)]
    if all(is_overlaid(root) for root in roots):
        return [locate(Path(FOLDER) / tail)]
    return [roots[0] / tail] if roots[0].resolve() == roots[1].resolve() else []


def _last(items: Sequence[Path | str], folder: str) -> int | None:
    places = [
        index
        for index, item in enumerate(items)
        if isinstance(item, Path) and item.absolute().parent.name == folder
    ]
    return places[-1] if places else None


def _root(file: Path | str) -> Path:
    parent = Path(file).parent
    # `configs/methods` -> `configs`; a file named from within its folder has none in its path.
    return parent.parent if parent.name else parent.absolute().parent


@dataclass
class _Writer:
    """Writes layers as arguments of a parser that knows nothing of layers."""

    arguments: list[str] = field(default_factory=list)
    records: set[str] = field(default_factory=set)
    recipe: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    parts: Parts = field(default_factory=Parts)
    _waiting: str = ""  # an option whose value is the next argument

    def write(self, item: Path | str) -> None:
        """Add a file or another argument."""
        if isinstance(item, str):
            self._write_argument(item)
            return
        content = read_layer(item)
        self._replace_parts(content, item)
        self._replace_records(set(content))
        # The parser takes `a/../b` for `b`, which it is not where `a` is a link.
        self.arguments += ["--config", str(item.resolve() if ".." in item.parts else item)]
        self._add_overrides(content.get("recipe"))

    def _write_argument(self, item: str) -> None:
        waiting, self._waiting = self._waiting, ""
        flag, equals, value = item.partition("=")
        if item.startswith("--"):
            key = flag[2:]
            self._replace_records({key})
            if equals:
                item = self._option(key, value) or item
            else:
                self._waiting = key
        elif waiting:
            flag = self.arguments.pop()
            whole = self._option(waiting, item)
            if whole is not None:
                item = whole
            else:
                self.arguments.append(flag)
        self.arguments.append(item)

    def _option(self, key: str, value: str) -> str | None:
        """Take in what an option says; return how the parser must be given it where it would misread it as it is."""
        content = option(key, value)
        self._replace_parts(content, None)
        return None if key.endswith("+") else _with_null(content)

    def _replace_records(self, given: set[str]) -> None:
        for key in RECORDS:
            if key in given:
                self.arguments += [f"--{key}=[]"] if key in self.records else []
                self.records.add(key)

    def _replace_parts(self, content: Mapping[str, Any], file: Path | None) -> None:
        """Take out what was said of classes that a layer replaces: none of it is meant for the new ones."""
        for emptied in self.parts.add(content, file):
            self.arguments.append(f"--config={json.dumps(emptied)}")

    def _add_overrides(self, recipe: Any) -> None:
        if not isinstance(recipe, dict):
            return
        name, overrides = recipe.get("name", self.recipe), recipe.get("overrides")
        if isinstance(overrides, dict):
            kept = self.overrides if name == self.recipe else {}
            for key in sorted(kept.keys() - overrides.keys()):
                value = yaml.safe_dump(kept[key], default_flow_style=True, width=sys.maxsize)
                self.arguments.append(f"--recipe.overrides.{key}={value.splitlines()[0]}")
            self.overrides = {**kept, **overrides}
        self.recipe = name


def _with_null(content: Mapping[str, Any]) -> str | None:
    """Write an option that says ``null`` of a class within another as one of the outer class; None for all other options.

    Given by itself, the parser (jsonargparse 4.53) takes such a ``null`` for the text ``None``.
    """
    for first, part in content.items():
        arguments = part.get("init_args") if isinstance(part, dict) else None
        if isinstance(arguments, dict) and len(arguments) == 1:
            [(name, inner)] = arguments.items()
            nested = inner.get("init_args") if isinstance(inner, dict) else None
            if nested is not None and _holds_null(nested):
                return f"--{first}.init_args.{name}={json.dumps(inner, default=str)}"
    return None


def _holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return value is None
