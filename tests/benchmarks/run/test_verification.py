import dataclasses

import pytest

from benchmarks.run.verification import (
    compare_choices,
    compare_data,
    compare_results,
    compare_surroundings,
    is_same,
)


def verdicts(stages):
    return {stage.name: stage.verdict for stage in stages}


def with_config(result, **changes):
    distilled = {**result.config["distilled"], **changes}
    return dataclasses.replace(result, config={**result.config, "distilled": distilled})


@pytest.mark.parametrize(
    ("difference", "exact", "verdict"),
    [
        (0.0, True, "same"),
        (1e-9, True, "differs"),
        (0.0, False, "same"),
        (0.02, False, "within tolerance"),
        (-0.02, False, "within tolerance"),
        (0.04, False, "differs"),
    ],
)
def test_accuracies_are_equal_here_and_near_elsewhere(result_of, difference, exact, verdict):
    stages = compare_results(result_of(top1=0.5), result_of(top1=0.5 + difference), exact=exact)
    assert verdicts(stages)["top1_last"] == verdict
    assert is_same(stages) == (verdict != "differs")
    strict = compare_results(
        result_of(top1=0.5), result_of(top1=0.5 + difference), exact=False, tolerance=0.0
    )
    assert is_same(strict) == (difference == 0.0)


@pytest.mark.parametrize(("exact", "verdict"), [(True, "differs"), (False, "other bits")])
def test_other_bits_count_where_the_same_are_expected(result_of, exact, verdict):
    one = result_of()
    other = with_config(one, fingerprint="b", context={"prior": "other"})
    told = verdicts(compare_results(one, other, exact=exact))
    assert (told["distilled set"], told["prior"], told["teacher"]) == (verdict, verdict, "same")
    told = verdicts(compare_results(one, result_of(loss=0.2), exact=exact))
    assert told["training losses (the last)"] == verdict
    told = verdicts(compare_results(one, result_of(config={"teacher": "t1"}), exact=exact))
    assert told["teacher"] == verdict


def test_another_student_differs_wherever_it_is(result_of):
    for other in (
        result_of(seed=1),
        result_of(student="vit"),
        result_of(config={"precision": "b"}),
    ):
        told = verdicts(compare_results(result_of(), other, exact=False))
        assert told["student"] == "differs"


def test_data_are_compared_entry_by_entry(result_of):
    result = result_of()
    data = result.config["data"]
    assert verdicts(compare_data(result, data)) == {"dataset": "same"}
    told = compare_data(result, {**data, "source": "other", "test_images": 3})
    assert verdicts(told) == {"dataset: source": "differs", "dataset: test_images": "differs"}
    assert [(stage.recorded, stage.derived) for stage in told] == [("abc", "other"), ("30", "3")]


def test_choices_are_compared_value_by_value(result_of):
    result = result_of(settings={"power": 0.5})
    settings, recipe = result.config["distilled"]["settings"], result.config["recipe"]
    assert is_same(compare_choices(result, "ddoq", settings, recipe))
    assert is_same(compare_choices(result, None, None, recipe))  # a given set
    other = compare_choices(result, "ddoq", {**settings, "power": 1.0}, {**recipe, "epochs": 6})
    assert verdicts(other) == {"method: power": "differs", "recipe: epochs": "differs"}
    assert verdicts(compare_choices(result, "d4m", {}, recipe))["method"] == "differs"


def test_surroundings_are_what_can_change_bits():
    record = {
        "versions": {"torch": "2", "ddoq-bench": "1", "timm": "3"},
        "git": {"commit": "a"},
        "cpu": "a CPU",
        "threads": 1,
    }
    other = {**record, "git": {"commit": "b"}, "versions": {"torch": "2", "ddoq-bench": "2"}}
    assert verdicts(compare_surroundings(record, other)) == {"versions and machine": "same"}
    other = {**record, "threads": 2, "versions": {"torch": "3"}}
    told = verdicts(compare_surroundings(record, other))
    assert told == {"surroundings: torch": "other bits", "surroundings: threads": "other bits"}
