import pytest
from jsonargparse import ArgumentParser

from baselines.random_selection import RandomSelection
from ddoq.distillation.arguments import Configured
from ddoq.distillation.tables import ByBudget, at_budget, look_up, settled
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError


class Loops(Configured):
    """A method whose loops depend on the budget."""

    def __init__(
        self,
        ipc: int,
        outer: ByBudget[int] = 1,
        lr: ByBudget[float] = 0.5,
        sizes: dict[int, int] | None = None,
        parts: list[Configured] | None = None,
        base: Configured | None = None,
    ) -> None:
        self.ipc = ipc
        self.outer = settled(outer)


class Experts(Configured):
    """An ingredient; it has no budget of its own."""

    def __init__(self, epochs: ByBudget[int]) -> None:
        self.epochs = settled(epochs)


def test_entries_hold_up_to_the_next():
    table = {1: {1: "a", 10: "b"}, 100: {1: "c"}}
    cases = {(10, 1): "a", (99, 9): "a", (10, 10): "b", (10, 50): "b", (100, 50): "c"}
    assert {case: look_up(table, *case, "x") for case in cases} == cases
    assert look_up("v", 10, 1, "x") == "v"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({10: {1: 2}}, "x: the table has no entry for 5 classes: it starts at 10"),
        ({10: 2}, "x: the table has no entry for 3 images per class: it starts at 10"),
        ({1: {10: 2}}, "no entry for 3 images per class"),
        ({}, "it starts at nothing"),
    ],
)
def test_a_table_that_starts_too_late_is_named(table, message):
    with pytest.raises(UserError, match=message):
        look_up(table, 5, 3, "x")


def test_tables_become_values_that_settings_hold():
    method = at_budget(Loops(10, outer={1: 1, 10: 10}, lr={10: {1: 0.1}, 100: {1: 0.2}}), 100)
    assert (method.outer, method.arguments["lr"]) == (10, 0.2)
    assert method.settings() == Loops(10, outer=10, lr=0.2).settings()


def test_nothing_is_made_anew_where_there_is_no_table():
    plain = Loops(1, sizes={1: 2}, parts=[Experts(3)], base=Loops(2))
    assert at_budget(plain, 10) is plain


def test_what_a_method_takes_is_settled_too_with_its_own_budget_or_the_methods():
    table = {1: 5, 10: 50}
    method = Loops(10, parts=[Experts(table)], base=Loops(1, outer=table, base=Experts(table)))
    method = at_budget(method, 10)
    (experts,), base = method.arguments["parts"], method.arguments["base"]
    assert (experts.epochs, base.outer, base.arguments["base"].epochs) == (50, 5, 5)


def test_a_table_without_a_budget_is_refused():
    with pytest.raises(UserError, match=r"Experts\.epochs is a table"):
        at_budget(Experts({1: 2}), 10)
    assert at_budget(Experts({1: 2}), 10, ipc=1).epochs == 2


def test_the_parser_takes_values_and_both_kinds_of_tables():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Loops, "loops")
    parsed = parser.parse_object(
        {"loops": {"ipc": 1, "outer": {10: {1: 50, 10: 30}}, "lr": {1: 1, 100: 10}}}
    )
    assert parsed.loops.outer == {10: {1: 50, 10: 30}}
    assert parsed.loops.lr == {1: 1.0, 100: 10.0}
    assert at_budget(parser.instantiate(parsed).loops, 10).outer == 50


class Steps(RandomSelection):
    """A method with a table, for a wrapper to take."""

    def __init__(self, ipc: int, seed: int = 0, steps: ByBudget[int] = 5) -> None:
        super().__init__(ipc, seed)
        self.steps = settled(steps)


class Around(Wrapper):
    """A wrapper that changes nothing."""

    method = "around"


def test_a_wrapper_gets_its_base_with_values():
    wrapper = at_budget(Around(Steps(1, steps={1: 2, 10: 20}), ipc=10), 10)
    assert (type(wrapper), wrapper.ipc, wrapper.base.steps) == (Around, 10, 20)
    assert wrapper.settings() == Around(Steps(10, steps=20)).settings()
