"""Values of recipes that depend on the distilled set: tables by number of classes and images per class, or by size."""

from collections.abc import Mapping
from typing import Any, TypeVar

_Value = TypeVar("_Value")

# One number, or a table: by number of classes, then by images per class. An entry holds from its key on up to
# the next one, and the first key is 1, so that there is a number for every set.
ByClassesAndIpc = int | dict[int, dict[int, int]]


def entry_from(table: Mapping[int, _Value], key: int) -> _Value:
    """Look up the entry with the largest key that is not above the given one."""
    return table[max(start for start in table if start <= key)]


def are_counts(rule: ByClassesAndIpc) -> bool:
    """Say whether all numbers of a rule are at least 1 and it has one for every set."""
    if isinstance(rule, int):
        return rule >= 1
    return _starts_at_1(rule) and all(
        _starts_at_1(table) and min(table.values()) >= 1 for table in rule.values()
    )


def are_shares(rule: tuple[float, float] | dict[int, tuple[float, float]]) -> bool:
    """Say whether all ranges of a rule are shares and it has one for every side."""
    if isinstance(rule, tuple):
        return 0 < rule[0] <= rule[1] <= 1
    return _starts_at_1(rule) and all(are_shares(pair) for pair in rule.values())


def least(rule: ByClassesAndIpc) -> int:
    """Return the smallest number of a rule; 0 of one without any."""
    if isinstance(rule, int):
        return rule
    return min((number for table in rule.values() for number in table.values()), default=0)


def most(rule: ByClassesAndIpc) -> int:
    """Return the largest number of a rule."""
    if isinstance(rule, int):
        return rule
    return max(number for table in rule.values() for number in table.values())


def _starts_at_1(table: Mapping[int, Any]) -> bool:
    return min(table, default=0) == 1


def in_table(rule: Any) -> str:
    """Say what holds of tables, to end the message of an error; nothing where a rule is none."""
    return (
        " for every entry of a table, and tables must start at 1" if isinstance(rule, dict) else ""
    )
