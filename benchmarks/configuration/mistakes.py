"""Name the nearest valid class or key for a wrong one, and make jsonargparse's messages short."""

import dataclasses
import enum
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from benchmarks.configuration.keys import KEYS, PARTS
from benchmarks.configuration.options import loose, read
from benchmarks.configuration.values import expected, has_form, members, takes_plain
from ddoq.errors import suggest

_NOISE = (
    "Does not validate against any of",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Expected a path but",
)
_KEY = re.compile(r'Parser key "([^"]*)"')
_CALLED = re.compile(r'Parser key "([^"]*)":')
_CLASS = re.compile(r"Problem with given class_path '(?:[^']*\.)?(\w+)'")
_MISSING = re.compile(r"the following arguments are required: ([\w, ]+)")
_PART = ("class_path", "init_args", "dict_kwargs")
_NAMED = "name a class, or hold `class_path` and `init_args`"  # what the value of a part must do
_OURS = ("ddoq", "baselines", "benchmarks")


def explain(message: str, arguments: Sequence[str], keys: Mapping[str, Any]) -> str:
    """Say what is wrong with arguments that the parser has refused.

    The names in them are compared with what classes and dataclasses take; where all are right, the parser's own message
    is shortened.

    Args:
        message: What the parser said.
        arguments: What it was given, as :func:`benchmarks.configuration.layers.expand` returns it.
        keys: The type of every top-level key; None where it has no names inside.

    Returns:
        One or a few lines for the user.

    Example:
        >>> explain("unrecognized arguments: --outptu=x", ["--outptu=x"], {"output": str, "force": bool})
        "Unknown key 'outptu'. Did you mean 'output'? Valid: force, output."
    """
    if hint := find_mistake(arguments, keys):
        return hint
    if "expected one argument" in message and (bare := _without_value(arguments)):
        return f"{bare} needs a value."
    for argument in loose(arguments):
        hint = f" Did you mean `--config {argument}`?" if _is_file(argument) else ""
        return f"{argument!r} is no option.{hint}"
    return find_mistake(arguments, keys, values=True) or _shortened(message)


def _without_value(arguments: Sequence[str]) -> str:
    """Find the first option that another one, or nothing, follows; the parser names but the part that it belongs to."""
    following = [*arguments[1:], "--"]
    pairs = zip(arguments, following, strict=True)
    options = (
        first
        for first, second in pairs
        if first.startswith("--") and len(first) > 2 and "=" not in first and second[:2] == "--"
    )
    return next(options, "")


def _shortened(message: str) -> str:
    """Say the parser's own message in a few words."""
    place = _KEY.search(message)
    if missing := _MISSING.search(message):
        names, kind = missing[1], _CLASS.search(message)
        first = names.split(", ")[0]
        if not place or not kind:
            return f"{names} is missing: name a file that has it with --config, or give --{first}."
        option = f"--{place[1]}.{'init_args.' if place[1] in PARTS else ''}{first}"
        return f"`{place[1]}` ({kind[1]}) needs {names}: give {option}, or write it into a file."
    if place and "Not a valid subclass of" in message:
        form = _NAMED if place[1] in PARTS else "hold keys and values: a required one is missing"
        return f"`{place[1]}` must {form}."
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(_NOISE) and "NoneType" not in line]
    return _CALLED.sub(r"`\1`:", " ".join(dict.fromkeys(kept)) or message)


def find_mistake(
    arguments: Sequence[str],
    keys: Mapping[str, Any],
    *,
    certain: bool = False,
    values: bool = False,
) -> str:
    """Find the first name or form in arguments that classes and dataclasses do not take.

    Args:
        arguments: As for :func:`explain`.
        keys: The type of every top-level key.
        certain: Leave out what only the parser can judge: the arguments of classes that others wrote, which may hand
            theirs on in ways that cannot be followed here.
        values: Look at values too, not at names alone.

    Returns:
        What is wrong; nothing where all is well.
    """
    names = _Names(certain, values)
    for file, content in read(arguments):
        names.where = f" in {file}" if file else ""
        if hint := names.check(content, keys, "", ""):
            return hint
    return ""


class _Names:
    """Compares names with types, layer by layer: a class that one layer names takes the arguments of the next.

    Attributes:
        where: How messages name the layer.
        classes: The class that stands at a place, such as ``model`` or ``model.experts``.
    """

    def __init__(self, certain: bool, values: bool) -> None:
        self.certain = certain
        self.values = values
        self.where = ""
        self.classes: dict[str, type] = {}

    def check(self, content: Any, valid: Mapping[str, Any], place: str, owner: str) -> str:
        """Find the first wrong name in a mapping.

        Args:
            content: The mapping.
            valid: Names that it may have, with their types.
            place: Where it stands, from the top.
            owner: The place of the class whose arguments these are; nothing at the top.

        Returns:
            What is wrong; nothing where all is well.
        """
        if not isinstance(content, Mapping):
            return ""
        for name, value in content.items():
            inner = f"{place}.{name}" if place else str(name)
            if name == "help" or (not place and name == "h"):  # as in --model.help
                continue
            known = name if place else str(name).replace("-", "_")  # as options may be written
            if known not in valid:
                what = f"{self._inside(inner, owner)!r}{self._of(owner)}{self.where}"
                return f"Unknown key {what}. {suggest(str(name), valid)}"
            if hint := self._check_value(value, valid[known], inner, owner):
                return hint
        return ""

    def _check_value(self, value: Any, annotation: Any, place: str, owner: str) -> str:
        kinds = members(annotation)
        if value is None:
            for inner in [key for key in self.classes if f"{key}.".startswith(f"{place}.")]:
                del self.classes[inner]
        elif not takes_plain(value, kinds):  # such as false for `logger`, which takes classes, too
            hints = [
                next(filter(None, self._hints(value, kind, place, owner)), "") for kind in kinds
            ]
            shaped = [
                hint for hint, kind in zip(hints, kinds, strict=True) if has_form(value, kind)
            ]
            # Of several types of the value's form, such as tables in tables, one that takes it is enough.
            if hint := next(filter(None, hints), "") if all(shaped) else "":
                return hint
        return self._check_kind(value, annotation, place, owner)

    def _check_kind(self, value: Any, annotation: Any, place: str, owner: str) -> str:
        """Say what a value must be: a few of them the parser would take, and fail later."""
        key = None if owner else KEYS.get(place)
        what = f"`{self._inside(place, owner)}`{self._of(owner)}{self.where}"
        if key is not None and key.folder and value == "":
            return f"{what} must be the name of a file or folder: it is empty."
        if value is None and _needs_keys(annotation):
            return f"{what} must hold keys and values, not null: leave it out for its defaults."
        emptied = key is not None and key.part and value is None
        # The parser takes null for any argument of a class.
        ours = not owner or _is_ours(self.classes[owner])
        if not emptied and (self.values or (value is None and ours)):
            form = expected(value, annotation, typed=not self.where)
            if form:
                return f"{what} must be {form}, not {'null' if value is None else repr(value)}."
        return ""

    def _hints(self, value: Any, member: Any, place: str, owner: str) -> Iterator[str]:
        kind, arguments = get_origin(member) or member, get_args(member)
        if not isinstance(kind, type):
            return
        if dataclasses.is_dataclass(kind) and not _names_class(value):
            valid = parameters(kind)
            yield self.check(value, valid, place, owner)
            if not isinstance(value, Mapping) and not _is_file(value):
                what = f"{self._inside(place, owner)!r}{self._of(owner)}{self.where}"
                yield f"{what} must hold keys ({', '.join(valid)}), not {value!r}."
        elif _is_part(kind):
            yield self._check_part(value, kind, place, owner)
        elif issubclass(kind, Mapping) and len(arguments) == 2 and isinstance(value, Mapping):
            for name, entry in value.items():
                yield self._check_value(entry, arguments[1], f"{place}.{name}", owner)
        elif issubclass(kind, Sequence) and arguments:
            # A mapping given for a list is an option such as --students.arch, which edits the last entry.
            single = [] if self.values else [value]
            for entry in value if isinstance(value, list) else single:
                yield self._check_value(entry, arguments[0], place, owner)

    def _check_part(self, value: Any, base: type, place: str, owner: str) -> str:
        content = value if isinstance(value, Mapping) else {"class_path": value}
        name = content.get("class_path", "")
        if not isinstance(name, str) or value == "":
            top = None if owner else KEYS.get(place)
            form = _NAMED if top is None or top.part else "hold keys and values"
            return (
                f"`{self._inside(place, owner)}`{self._of(owner)}{self.where} must {form}, "
                f"not {name if name else value!r}."
            )
        if name and not _is_file(name):
            named = find_class(name, base)
            if named is None:
                key = f"`{self._inside(place, owner)}`{self._of(owner)}{self.where}"
                known = {child.__name__ for child in concrete_subclasses(base)}
                short = name.rpartition(".")[2]
                return f"Unknown class {name!r} for {key}. {suggest(short, known)}"
            self.classes[place] = named
        elif place not in self.classes:
            if inspect.isabstract(base):
                # Which class is meant within another one, only the parser may know: it has defaults.
                judged = not owner and not _is_file(name)
                return "" if not judged else f"`{place}`{self.where} must {_NAMED}, not {value!r}."
            self.classes[place] = base
        if self.certain and not _is_ours(self.classes[place]):
            return ""
        for part in ("init_args", "dict_kwargs"):
            if not isinstance(content.get(part, {}), Mapping):
                return f"`{place}.{part}`{self.where} must hold keys and values, not {content[part]!r}."
        valid = parameters(self.classes[place])
        if (
            _is_ours(self.classes[place])
            and (extra := content.get("dict_kwargs"))
            and (hint := self.check(extra, valid, place, place))
        ):
            return hint
        direct = {k: v for k, v in content.items() if k not in _PART}  # as in --model.ipc
        return self.check(direct, valid, place, place) or self.check(
            content.get("init_args"), valid, place, place
        )

    def _inside(self, place: str, owner: str) -> str:
        return place.removeprefix(f"{owner}.") if owner else place

    def _of(self, owner: str) -> str:
        return f" of {self.classes[owner].__name__}" if owner else ""


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value.endswith((".yaml", ".yml", ".json"))


def _needs_keys(annotation: Any) -> bool:
    """Say whether an annotation is a dataclass alone: the parser takes null for one, and fails when it is built."""
    kinds = members(annotation)
    return all(isinstance(kind, type) and dataclasses.is_dataclass(kind) for kind in kinds)


def _is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] in _OURS


def _names_class(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_path" in value


def _is_part(kind: type) -> bool:
    """Say whether values of a type are given as a class with its arguments: not what Python itself comes with."""
    return kind.__module__.split(".")[0] not in sys.stdlib_module_names and not issubclass(
        kind, enum.Enum
    )


def find_class(name: str, base: type) -> type | None:
    """Find the class that a configuration names: by its short name, or by where it can be imported.

    Args:
        name: What is written.
        base: What it must be a subclass of.
    """
    module, _, short = name.rpartition(".")
    if not module:
        return next((c for c in concrete_subclasses(base) if c.__name__ == short), None)
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        named = getattr(import_module(module), short)
    except (ImportError, AttributeError, ValueError):
        return None
    return named if isinstance(named, type) and issubclass(named, base) else None


def concrete_subclasses(base: type) -> Iterator[type]:
    """Iterate over ``base`` and the classes below it, as far as they can be instantiated."""
    if not inspect.isabstract(base):
        yield base
    children: list[type] = base.__subclasses__()
    for child in children:
        yield from concrete_subclasses(child)


def parameters(owner: type) -> dict[str, Any]:
    """Return the names of a class's arguments with their annotations, those that it hands on to parents included.

    Args:
        owner: A class or a dataclass.

    Example:
        >>> class A:
        ...     def __init__(self, a: int = 0) -> None: ...
        >>> class B(A):
        ...     def __init__(self, b: str, **more: int) -> None: ...
        >>> parameters(B)
        {'b': <class 'str'>, 'a': <class 'int'>}
    """
    names: dict[str, Any] = {}
    for parent in owner.__mro__:
        constructor = vars(parent).get("__init__")
        if constructor is None:
            continue
        try:
            hints = get_type_hints(constructor)
        except NameError:  # an annotation that exists for type checkers only
            hints = {}
        _, *given = inspect.signature(constructor).parameters.values()
        for parameter in given:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                names.setdefault(parameter.name, hints.get(parameter.name))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in given):
            break
    return names
