"""Say in plain words what a value of a type looks like, and whether one is of it."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    types.NoneType: "null",
    None: "null",
}


def members(annotation: Any) -> list[Any]:
    """List the types that an annotation is made of by ``|`` and ``Annotated``.

    Example:
        >>> members(int | None)
        [<class 'int'>, <class 'NoneType'>]
    """
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    return [annotation]


def expected(value: Any, annotation: Any, *, typed: bool = False) -> str:
    """Say what a value should have been.

    Args:
        value: As read from YAML.
        annotation: Of the argument; None where it has none.
        typed: Whether it was given as an option, where all is text.

    Returns:
        What the type takes; nothing where the value is one, or where that cannot be judged here.

    Example:
        >>> expected("x", int | None), expected(3, int), expected([1, "a"], list[int])
        ('a whole number or null', '', 'a list, each item a whole number')
    """
    kinds = [] if annotation is None else members(annotation)
    if not kinds or any(_fits(value, kind, typed) for kind in kinds):
        return ""
    return " or ".join(dict.fromkeys(_words(kind) for kind in kinds))


def takes_plain(value: Any, kinds: Sequence[Any]) -> bool:
    """Say whether one of several types is plain, such as a number or text, and takes a value as it is.

    Example:
        >>> takes_plain(False, [list, bool]), takes_plain(3, [list, bool])
        (True, False)
    """
    return any(kind in _PLAIN and _is_plain(value, kind, False) for kind in kinds)


def has_form(value: Any, kind: Any) -> bool:
    """Say whether a mapping or a list is what a type is written as; its entries are not looked at.

    Example:
        >>> has_form({1: 0.1}, dict[int, float]), has_form({1: 0.1}, float), has_form([1], list[int])
        (True, False, True)
    """
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or kind in _PLAIN:
        return False
    if isinstance(value, list):
        return issubclass(origin, Sequence)
    return isinstance(value, Mapping) and not issubclass(origin, Sequence)


def _fits(value: Any, kind: Any, typed: bool) -> bool:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind in _PLAIN:
        return _is_plain(value, kind, typed)
    if origin is Literal:
        return value in arguments
    if not isinstance(origin, type):
        return True
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if issubclass(origin, Sequence):
        if not isinstance(value, list):
            return False
        if origin is tuple and ... not in arguments:
            return len(arguments) in (0, len(value)) and not any(
                expected(item, part, typed=typed)
                for item, part in zip(value, arguments, strict=False)
            )
        return not (arguments and any(expected(item, arguments[0], typed=typed) for item in value))
    return value is not None  # a class, which is looked at by its names


def _is_plain(value: Any, kind: Any, typed: bool) -> bool:
    if kind in (None, types.NoneType):
        return value is None
    if kind is str:
        return isinstance(value, str) or (typed and value is not None)
    if kind is bool:
        return isinstance(value, bool)
    if isinstance(value, str):  # such as 1e-3, which YAML takes for text
        try:
            kind(value)
        except ValueError:
            return False
        return True
    numbers = (int, float) if kind is float else (int,)
    return isinstance(value, numbers) and not isinstance(value, bool)


def _words(kind: Any) -> str:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "keys with values"
    if origin is tuple and arguments and ... not in arguments:
        return f"a list of {len(arguments)}, each {_words(members(arguments[0])[0])}"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        item = [_words(part) for part in members(arguments[0])] if arguments else []
        return f"a list, each item {' or '.join(item)}" if item else "a list"
    return f"a {origin.__name__}" if isinstance(origin, type) else str(kind)
