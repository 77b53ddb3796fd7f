import math
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
from scipy.stats import t as student

from benchmarks.results.columns import flat
from benchmarks.tables.folding import Score, budget, fold
from benchmarks.tables.notes import provenance_notes


def test_the_interval_by_hand():
    # 2 degrees of freedom: t = 4.302653; s = 0.1; 4.302653 * 0.1 / sqrt(3) = 0.248414
    low, high = Score.of([0.4, 0.5, 0.6]).interval
    assert low == pytest.approx(0.5 - 0.248414, abs=1e-6)
    assert high == pytest.approx(0.5 + 0.248414, abs=1e-6)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_interval_is_students(n):
    values = [math.sin(number) for number in range(n)]
    error = statistics.stdev(values) / math.sqrt(n)
    expected = student.interval(0.95, n - 1, statistics.fmean(values), error)
    assert Score.of(values).interval == pytest.approx(expected)


def test_one_value_has_no_interval_and_equal_ones_a_point():
    assert Score.of([0.5]).interval is None
    assert Score.of([0.5]).percent_interval() == ""
    assert Score.of([0.5, 0.5]).interval == (0.5, 0.5)
    assert Score.of([0.5, 0.5]).percent_interval() == "50.0 to 50.0"


def test_nothing_waits_for_scipy_before_an_interval_is_asked_for():
    script = (
        "import sys; from benchmarks.tables.folding import Score; import benchmarks.leaderboard.board; "
        "Score.of([0.1, 0.2]).percent(); Score.of([0.1]).interval; assert 'scipy' not in sys.modules; "
        "Score.of([0.1, 0.2]).interval; assert 'scipy.special' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_table_of_all_real_images_says_so(result_of):
    few, whole = fold([result_of(method="ddoq"), result_of(method="full", ipc=20)])
    assert (few.budget, few.is_full, few.lacks_random) == ("10 images per class", False, True)
    assert (whole.is_full, whole.lacks_random) == (True, False)
    assert whole.budget == budget(20, full=True) == "all training images (up to 20 per class)"
    (both,) = fold([result_of(method="full"), result_of(method="random")])
    assert (both.is_full, both.lacks_random) == (False, False)


SET_RATE = {"recipe": {"lr": "set", "changed": ["lr"]}, "recipe_label": "dsa[lr=set]"}


def at_rate(lr):
    return {"recipe": {"lr": lr, "changed": []}, "recipe_label": "dsa"}


def test_a_rate_that_came_with_the_set_stands_beside_the_recipes_own(result_of):
    own, learned = at_rate(0.01), SET_RATE
    results = [
        *(result_of(method="random", seed=seed, **own) for seed in (0, 1)),
        *(result_of(method="mtt", seed=seed, **learned) for seed in (0, 1)),
    ]
    (table,) = fold(results)
    assert (table.recipe, table.recipe_fields["lr"]) == ("dsa", 0.01)
    assert {row.label: row.score("resnet18").n for row in table.rows} == {"random": 2, "mtt": 2}
    assert fold(reversed(results)) == [table]
    notes = [note for note in provenance_notes(table).splitlines() if "Method" in note]
    assert ["learning rate of the set" in note for note in notes] == [
        row.method == "mtt" for row in table.rows
    ]


def test_notes_tell_what_a_set_knows_beyond_its_budget(result_of):
    plain, told = (result_of(method=method) for method in ("dm", "glad-dm"))
    told = replace(told, distilled={**told.distilled, "knowledge": "the decoder of a prior"})
    (table,) = fold([plain, told])
    notes = [note for note in provenance_notes(table).splitlines() if "Method" in note]
    known = ["; knowledge beyond the budget: the decoder of a prior; " in note for note in notes]
    assert known == [row.method == "glad-dm" for row in table.rows]
    assert flat(told)["distilled_knowledge"] == "the decoder of a prior"
    assert flat(plain)["distilled_knowledge"] is None


def test_one_method_at_both_rates_is_two_rows(result_of):
    (table,) = fold([result_of(**at_rate(0.01)), result_of(**SET_RATE)])
    assert sorted(row.label for row in table.rows) == ["ddoq [lr=absent]", "ddoq [lr=set]"]


@pytest.mark.parametrize(
    "others",
    [
        [],
        [at_rate(0.01), at_rate(0.02)],  # nobody knows which
        [{**at_rate(0.01), "ipc": 20}],
        [{**at_rate(0.01), "data": {"image_size": 16}}],
        [{"recipe": {"lr": 0.01, "epochs": 6, "changed": []}, "recipe_label": "dsa"}],
    ],
    ids=str,
)
def test_a_learned_rate_without_one_match_stays_alone(result_of, others):
    tables = fold([result_of(**SET_RATE), *(result_of(method="random", **o) for o in others)])
    assert len(tables) == 1 + len(others)
