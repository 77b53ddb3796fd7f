import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.results.files import write_result
from benchmarks.statistics.comparison import compare, comparison, paired_difference
from benchmarks.statistics.seeded import seeded
from benchmarks.tables.folding import fold
from ddoq.errors import UserError


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_and_p_value_are_scipys(n):
    generator = np.random.default_rng(n)
    a = generator.normal(0.6, 0.02, n)
    b = a - generator.normal(0.01, 0.02, n)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    found = paired_difference(a.tolist(), b.tolist())
    assert found.mean == pytest.approx(float(np.mean(a - b)))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.n == n


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    draws = generator.normal(0.3, 1.0, (2000, 4))
    found = [paired_difference(row.tolist(), [0.0] * 4) for row in draws]
    covered = sum(d.low <= 0.3 <= d.high for d in found) / len(found)
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_one_pair_has_no_interval_and_equal_differences_no_doubt():
    assert paired_difference([0.5], [0.25]).p_value is None
    assert paired_difference([0.5, 0.5], [0.5, 0.5]).p_value == 1.0
    assert paired_difference([0.75, 0.5], [0.5, 0.25]).p_value == 0.0


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paired_difference([0.5], [0.5, 0.6])
    with pytest.raises(ValueError, match="at least one"):
        paired_difference([], [])


@pytest.fixture
def folder(tmp_path, result_of):
    def write(*described):
        for keywords in described:
            write_result(tmp_path / "results", result_of(**keywords))
        return tmp_path

    return write


def test_seeds_are_paired_and_strangers_left_out(result_of):
    ours = [result_of(seed=s, top1=0.5 + 0.1 * s) for s in (0, 1, 2)]
    theirs = [result_of(method="d4m", seed=s, top1=0.4 + 0.1 * s) for s in (1, 2, 3)]
    (table,) = seeded(fold([*ours, *theirs]))
    ((student, difference),) = compare(table, "ddoq", "d4m")
    assert student == "resnet18"
    assert difference.n == 2
    assert difference.mean == pytest.approx(0.1)


def test_every_table_with_both_is_compared(folder):
    both = [
        {"method": m, "ipc": ipc, "seed": s}
        for m in ("ddoq", "d4m")
        for ipc in (1, 10)
        for s in (0, 1)
    ]
    text = comparison(folder(*both, {"ipc": 50}), "ddoq", "d4m")
    assert text.count("## ddoq minus d4m") == 2
    assert "50 images per class" not in text


def test_unknown_and_ambiguous_rows_are_named(folder):
    path = folder(
        {"settings": {"weight_power": 0.5}}, {"settings": {"weight_power": 1.0}}, {"method": "d4m"}
    )
    with pytest.raises(UserError, match=r"No row .* 'ddok'.*ddoq"):
        comparison(path, "ddok", "d4m")
    with pytest.raises(UserError, match="Several rows"):
        comparison(path, "ddoq", "d4m")
    assert "| resnet18" in comparison(path, "ddoq [weight_power=0.5]", "d4m")
