import pytest

from ddoq.distillation.by_ipc import by_ipc
from ddoq.errors import UserError


def test_a_plain_value_is_for_every_budget():
    assert by_ipc(0.1, 50, "lr") == 0.1
    assert by_ipc((1, 1), 50, "loops") == (1, 1)


@pytest.mark.parametrize(("ipc", "expected"), [(2, "a"), (9, "a"), (10, "b"), (1000, "b")])
def test_tables_give_the_entry_that_the_budget_has_reached(ipc, expected):
    assert by_ipc({10: "b", 2: "a"}, ipc, "loops") == expected


@pytest.mark.parametrize("table", [{2: "a"}, {}])
def test_tables_that_start_above_are_refused(table):
    with pytest.raises(UserError, match="loops has no entry for 1 images"):
        by_ipc(table, 1, "loops")
