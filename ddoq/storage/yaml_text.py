"""Read YAML that a person wrote: what a plain loader would take without a word, or would not survive, is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ddoq.errors import UserError

_MAX_BYTES = 4 * 2**20  # of a file; the largest that comes with the suite has 60 kB
_MAX_DEPTH = 100  # of brackets in brackets; a configuration has about ten
_MAX_NODES = 200_000  # once aliases are written out


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader; dates stay text, since JSON and options know none."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
        for letter, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_text(path: Path, what: str, by: str = "") -> str:
    """Read a text file that a user names.

    Args:
        path: The file.
        what: What it is called in errors, e.g. ``configuration``.
        by: Ends the error where there is no such file.

    Raises:
        UserError: If it is missing, a folder, too large, not readable or not UTF-8.
    """
    try:
        if path.is_dir():
            raise UserError(f"The {what} {path} is a folder; name a YAML file.")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise UserError(f"The {what} {path} has {size:,} bytes, more than {_MAX_BYTES:,}.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"The {what} {path} does not exist{by}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path} is not valid YAML: line {line} is not UTF-8.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"The {what} {path} cannot be read: {error}.") from None


def parse_yaml(text: str, where: object) -> Any:
    """Read YAML.

    Args:
        text: One document.
        where: The file or option that it is from, for errors.

    Returns:
        Its value.

    Raises:
        UserError: If it is no YAML, names a key twice, holds itself, is nested too deeply or unfolds to too much by
            aliases, or has characters that no file name or text can have.

    Example:
        >>> parse_yaml("{a: 1, b: [x]}", "my.yaml")
        {'a': 1, 'b': ['x']}
        >>> parse_yaml("{a: 1, a: 2}", "my.yaml")
        Traceback (most recent call last):
        ddoq.errors.UserError: my.yaml, line 1: the key 'a' is there twice (first in line 1): keep one of them.
    """
    try:
        _check_depth(text, where)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_size(node, where)
            _check_keys(node, where)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {_in_a_line(error)}.") from None
    except (ValueError, TypeError, OverflowError) as error:  # a number or key that YAML allows
        raise UserError(f"{where} is not valid YAML: {error}.") from None


def _in_a_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0].rstrip(".")
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _check_depth(text: str, where: object) -> None:
    """Count brackets within brackets without recursion, as loading itself has."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise UserError(f"{where}, line {line}: nested more than {_MAX_DEPTH} levels deep.")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    """Iterate over the nodes in a node, keys of mappings included, each with its place."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield "?", key
            yield str(key.value) if isinstance(key, yaml.ScalarNode) else "?", value
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(index), item) for index, item in enumerate(node.value))


def _check_size(root: yaml.Node, where: object) -> None:
    """Refuse a value inside of itself, and aliases that unfold to more than a machine holds."""
    measures: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def measure(node: yaml.Node, place: tuple[str, ...]) -> tuple[int, int]:
        """Return how many values a node stands for, and how deep they are nested."""
        if id(node) in open_nodes:
            raise UserError(
                f"{where}: `{'.'.join(place)}` is inside of itself: an anchor (&) is used (*) within what it names."
            )
        if id(node) not in measures:
            open_nodes.add(id(node))
            below = [measure(child, (*place, name)) for name, child in _children(node)]
            open_nodes.remove(id(node))
            total = 1 + sum(count for count, _ in below)
            depth = 1 + max((levels for _, levels in below), default=0)
            if total > _MAX_NODES or depth > _MAX_DEPTH + 1:
                line = node.start_mark.line + 1
                raise UserError(
                    f"{where}, line {line}: more than {_MAX_NODES:,} values or {_MAX_DEPTH} levels once its aliases (*) "
                    "are written out."
                )
            measures[id(node)] = total, depth
        return measures[id(node)]

    measure(root, ())


def _check_keys(root: yaml.Node, where: object) -> None:
    """Refuse keys that stand twice in a mapping, and characters that nothing can be named by."""
    seen: set[int] = set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        nodes += [child for _, child in _children(node)]
        if isinstance(node, yaml.ScalarNode):
            if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in node.value):
                line = node.start_mark.line + 1
                raise UserError(
                    f"{where}, line {line}: {node.value!r} is no text that UTF-8 holds."
                )
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    raise UserError(
                        f"{where}, line {line}: the key {key.value!r} is there twice (first in line {lines[name]}): "
                        "keep one of them."
                    )
                lines[name] = line
