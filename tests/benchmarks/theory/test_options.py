import re

import pytest

from benchmarks.theory.options import TheoryOptions
from ddoq.errors import UserError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"quantizers": ["loyd"]}, "Unknown --quantizers 'loyd'.*lloyd"),
        ({"decode": ["pixels"]}, "Unknown --decode 'pixels'"),
        ({"quantizers": []}, "--quantizers must list at least one value"),
        ({"ipc": []}, "--ipc must list at least one value"),
        ({"ipc": [1, 1]}, "--ipc lists a value twice: [1, 1]"),
        ({"ipc": [0]}, "--ipc must be at least 1, not 0"),
        ({"checkpoints": [-1]}, "--checkpoints must be at least 0, not -1"),
        ({"points": 1}, "--points must be at least 2, not 1"),
    ],
)
def test_impossible_options_are_refused(given, told):
    with pytest.raises(UserError) as error:
        TheoryOptions(**given)
    assert re.search(re.escape(told).replace(r"\.\*", ".*"), str(error.value))


def test_budgets_that_do_not_fit_are_left_out_unless_they_were_asked_for():
    assert TheoryOptions().budgets(60) == [1, 2, 5, 10, 20, 50]
    assert TheoryOptions(ipc=[60, 3]).budgets(60) == [3, 60]
    with pytest.raises(UserError, match="asks for 61 centroids"):
        TheoryOptions(ipc=[61]).budgets(60)
    assert TheoryOptions(decode=[]).decode == []
