"""What ``faithful: true`` says of a method: settings of its authors, which nothing that is given may contradict."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from ddoq.errors import UserError


def choose_settings(
    given: Mapping[str, Any],
    usual: Mapping[str, Any],
    published: Mapping[str, Any],
    *,
    faithful: bool,
    source: str,
) -> dict[str, Any]:
    """Fill in the settings that are left out.

    Args:
        given: Settings by name; None where left out.
        usual: What is taken for those, of the same names.
        published: What is taken instead where ``faithful``, of the same names.
        faithful: Whether published settings are wanted.
        source: Whose settings they are, for the error.

    Returns:
        The settings, none of them None.

    Raises:
        UserError: If ``faithful``, and a setting that is given differs from the published one.

    Example:
        >>> choose_settings({"a": None}, {"a": 1}, {"a": 2}, faithful=True, source="a script")
        {'a': 2}
    """
    if faithful:
        for name, value in given.items():
            if value is not None and value != published[name]:
                raise UserError(_contradiction(name, value, published[name], source))
    fallback = published if faithful else usual
    return {name: fallback[name] if value is None else value for name, value in given.items()}


def _contradiction(name: str, value: Any, official: Any, source: str) -> str:
    wrong, right = {name: value}, {name: official}
    if is_dataclass(value) and not isinstance(value, type):
        fields, officials = asdict(value), asdict(official)
        wrong = {f"{name}.{k}": v for k, v in fields.items() if v != officials[k]}
        right = {f"{name}.{k}": v for k, v in officials.items() if fields[k] != v}
    return (
        f"faithful: true follows {source}, but {_listed(wrong)}; there {_listed(right)}. "
        f"Remove {name}, or set faithful to false."
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} is {value}" for key, value in values.items())
