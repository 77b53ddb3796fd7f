"""Settings of methods that depend on the number of classes and of images per class, as papers list them."""

import functools
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ddoq.distillation.arguments import Configured
from ddoq.errors import UserError

_Value = TypeVar("_Value")
_Part = TypeVar("_Part", bound=Configured)

# One value for all sets; or a table by images per class; or one by number of classes, then by images per class. An entry
# holds from its key on up to the next one, as in the tables of recipes.
ByBudget = Union[_Value, dict[int, _Value], dict[int, dict[int, _Value]]]  # noqa: UP007 - of a type variable


def look_up(setting: ByBudget[_Value], num_classes: int, ipc: int, key: str) -> _Value:
    """Look up a setting for one distilled set.

    Args:
        setting: The value itself, or a table of values.
        num_classes: Number of classes.
        ipc: Images per class.
        key: What the setting is called, for the message.

    Returns:
        The value.

    Raises:
        UserError: If a table has no entry for so few classes or images.

    Example:
        >>> [look_up({1: 1.0, 100: 10.0}, 10, ipc, "lr") for ipc in (1, 99, 100)]
        [1.0, 1.0, 10.0]
        >>> [look_up({10: {1: 50, 10: 30}, 100: {1: 20}}, classes, 10, "steps") for classes in (10, 99, 200)]
        [30, 30, 20]
    """
    value: Any = setting
    if isinstance(value, Mapping) and all(isinstance(entry, Mapping) for entry in value.values()):
        value = _entry(value, num_classes, f"{key}: the table", "classes")
    if isinstance(value, Mapping):
        value = _entry(value, ipc, f"{key}: the table", "images per class")
    return cast(_Value, value)


def settled(setting: ByBudget[_Value]) -> _Value:
    """Take an argument for its value: methods and ingredients see tables only until :func:`at_budget` replaced them."""
    return cast(_Value, setting)


def at_budget(part: _Part, num_classes: int, ipc: int | None = None) -> _Part:
    """Replace tables among the arguments of a method by their values, also in what it takes as arguments.

    A table is an argument whose annotation is a :data:`ByBudget`, and whose value is a mapping. Settings and keys then
    hold the values: a table and a value in its place make the same.

    Args:
        part: A method, or an ingredient of one.
        num_classes: Number of classes of the dataset.
        ipc: Images per class, of a part that has no ``ipc`` of its own.

    Returns:
        The part itself where there is no table, or another one.

    Raises:
        UserError: If a table has no entry for so few classes or images.
    """
    budget: int | None = getattr(part, "ipc", ipc)
    kind: type = type(part)
    changes: dict[str, Any] = {}
    for name, value in part.arguments.items():
        key = f"{kind.__name__}.{name}"
        if isinstance(value, Mapping) and value and name in _tables(kind):
            if budget is None:
                raise UserError(f"{key} is a table, but there is no number of images per class.")
            changes[name] = look_up(value, num_classes, budget, key)
        elif (inner := _inside(value, num_classes, budget)) is not value:
            changes[name] = inner
    return part.with_arguments(**changes) if changes else part


def _inside(value: Any, num_classes: int, ipc: int | None) -> Any:
    """Replace tables in instances that a value is or holds; the value itself where there is none."""
    if isinstance(value, Configured):
        return at_budget(value, num_classes, ipc)
    if isinstance(value, Mapping):
        items = {key: _inside(item, num_classes, ipc) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in value) else value
    if isinstance(value, list | tuple):
        parts = [_inside(item, num_classes, ipc) for item in value]
        return (
            type(value)(parts)
            if any(a is not b for a, b in zip(parts, value, strict=True))
            else value
        )
    return value


def _entry(table: Mapping[int, Any], number: int, what: str, unit: str) -> Any:
    """Return the entry with the largest key that is not above a number."""
    starts = [start for start in table if start <= number]
    if not starts:
        raise UserError(
            f"{what} has no entry for {number} {unit}: it starts at {min(table, default='nothing')}. Add one, e.g. "
            "1: ..., or give one value for all."
        )
    return table[max(starts)]


@functools.cache
def _tables(cls: type) -> frozenset[str]:
    """Name the arguments that may be tables: a value, or a mapping from whole numbers."""
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # an annotation that exists for type checkers only
        return frozenset()
    names = set()
    for name, hint in hints.items():
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()
        tables = [kind for kind in kinds if get_origin(kind) is dict and get_args(kind)[0] is int]
        if tables and len(tables) < len([kind for kind in kinds if kind is not type(None)]):
            names.add(name)
    return frozenset(names)
