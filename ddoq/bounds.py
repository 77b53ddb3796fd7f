"""The one check of numbers that users set: finite, and within bounds that the error names."""

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ddoq.errors import UserError


def check_number(
    key: str,
    value: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    """Refuse a number that is not finite or outside its bounds.

    Args:
        key: What the setting is called, e.g. ``teacher.lr``.
        value: The number.
        above: The number must be greater than this.
        at_least: The number must not be less than this.
        below: The number must be less than this.
        at_most: The number must not be greater than this.

    Raises:
        UserError: Naming key, bounds and value.

    Example:
        >>> check_number("lr", 0.1, above=0)
        >>> check_number("momentum", 1.0, at_least=0, below=1)
        Traceback (most recent call last):
        ...
        ddoq.errors.UserError: momentum must be in [0, 1), not 1.0.
        >>> check_number("lr", float("inf"), above=0)
        Traceback (most recent call last):
        ...
        ddoq.errors.UserError: lr must be above 0 and finite, not inf.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    finite = (
        number and abs(value) <= sys.float_info.max
    )  # not so for NaN, nor for whole numbers of 400 digits
    holds = (
        finite
        and (above is None or value > above)
        and (at_least is None or value >= at_least)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
    )
    if not holds:
        rule = _rule(above, at_least, below, at_most, infinite=number and not finite)
        raise UserError(f"{key} must be {rule}, not {value!r}.")


def _rule(
    above: float | None,
    at_least: float | None,
    below: float | None,
    at_most: float | None,
    *,
    infinite: bool,
) -> str:
    """Put bounds into words; that a number must be finite is said of one that is not."""
    low = above if at_least is None else at_least
    high = below if at_most is None else at_most
    if low is not None and high is not None:
        opening, closing = "[" if above is None else "(", ")" if at_most is None else "]"
        return f"in {opening}{low:g}, {high:g}{closing}"
    if low is None and high is None:
        return "a finite number"
    if low is not None:
        rule = f"{'at least' if above is None else 'above'} {low:g}"
    else:
        rule = f"{'below' if at_most is None else 'at most'} {high:g}"
    return f"{rule} and finite" if infinite else rule


def check_normalisation(mean: Any, std: Any, prefix: str = "") -> None:
    """Refuse channel means and deviations that no images in [0, 1] have.

    Args:
        mean: One mean per channel.
        std: One standard deviation per channel. Below 0.001, a fourth of one of 256 levels, hardly a pixel would keep a
            value that networks can take.
        prefix: What stands before ``mean`` and ``std`` in the error, e.g. ``teacher.``.

    Raises:
        UserError: Naming the key and its bounds.

    Example:
        >>> check_normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    """
    for value in mean:
        check_number(f"{prefix}mean", value, at_least=0, at_most=1)
    for value in std:
        if value <= 0:
            raise UserError(f"{prefix}std must be positive in every channel, not {std}.")
        check_number(f"{prefix}std", value, at_least=1e-3, at_most=1e3)


def check_finite(key: str, value: Any) -> None:
    """Refuse NaN and infinity anywhere in a value: in mappings, lists and dataclasses, too.

    Args:
        key: What the value is called.
        value: Any; what is neither a number nor one of these is left alone.

    Raises:
        UserError: Naming the key of the number, e.g. ``model.init_args.sampling.strength``.

    Example:
        >>> check_finite("model", {"lr": [0.1, float("nan")]})
        Traceback (most recent call last):
        ...
        ddoq.errors.UserError: model.lr.1 must be a finite number, not nan.
    """
    if isinstance(value, float):
        check_number(key, value)
        return
    items: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        items = value
    elif is_dataclass(value) and not isinstance(value, type):
        items = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, list | tuple):
        items = dict(enumerate(value))
    for name, item in items.items():
        check_finite(f"{key}.{name}" if key else str(name), item)
