"""One check of numbers: what it lets pass, and how it names the rest."""

from dataclasses import dataclass

import pytest

from ddoq.bounds import check_finite, check_normalisation, check_number
from ddoq.errors import UserError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "bounds", "rule"),
    [
        (0, {"above": 0}, "above 0, not 0"),
        (-1.0, {"at_least": 0}, "at least 0, not -1.0"),
        (2, {"at_most": 1}, "at most 1, not 2"),
        (1, {"below": 1}, "below 1, not 1"),
        (0.0, {"above": 0, "at_most": 1}, r"in \(0, 1\], not 0.0"),
        (1.0, {"at_least": 0, "below": 1}, r"in \[0, 1\), not 1.0"),
        (True, {}, "a finite number, not True"),
        ("1", {}, "a finite number, not '1'"),
        (10**400, {"above": 0}, "above 0 and finite"),
    ],
)
def test_bounds_are_named(value, bounds, rule):
    with pytest.raises(UserError, match=rf"^key must be {rule}"):
        check_number("key", value, **bounds)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("bounds", [{}, {"above": 0}, {"at_least": 0}, {"at_most": 1}])
def test_nan_and_infinity_are_within_no_bounds(value, bounds):
    with pytest.raises(UserError, match=r"^key must be"):
        check_number("key", value, **bounds)


def test_bounds_that_hold():
    check_number("key", 1, at_least=1, at_most=1)
    check_number("key", 0.5, above=0, below=1)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, NAN), (1.0, 1.0), r"teacher\.mean must be in \[0, 1\], not nan"),
        ((0.5, -1e9), (1.0, 1.0), r"teacher\.mean must be in \[0, 1\]"),
        ((0.5, 0.5), (1.0, 0.0), r"teacher\.std must be positive"),
        ((0.5, 0.5), (1.0, INF), r"teacher\.std must be in \[0\.001, 1000\], not inf"),
        ((0.5, 0.5), (1.0, 1e-30), r"teacher\.std must be in \[0\.001, 1000\]"),
    ],
)
def test_normalisation(mean, std, message):
    with pytest.raises(UserError, match=message):
        check_normalisation(mean, std, "teacher.")


@dataclass
class Part:
    size: float


def test_nested_numbers_are_found_and_named():
    check_finite("", {"a": [1.0, 2, None, "nan", True], "b": Part(1.0)})
    for value, key in (
        ({"a": {"b": (0.0, INF)}}, "a.b.1"),
        ({"parts": [Part(1.0), Part(NAN)]}, "parts.1.size"),
    ):
        with pytest.raises(UserError, match=rf"^{key} must be a finite number"):
            check_finite("", value)
