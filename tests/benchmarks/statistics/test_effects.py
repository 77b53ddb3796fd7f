import pytest
from scipy import stats

from benchmarks.statistics.effects import OVER_STUDENTS, effects
from benchmarks.statistics.seeded import seeded
from benchmarks.tables.folding import fold


def results(result_of, accuracies, student="vit", **settings):
    """Make one result a seed; the distillation seed follows the student's."""
    return [
        result_of(student=student, seed=s, distill_seed=s, top1=top1, **settings)
        for s, top1 in enumerate(accuracies)
    ]


@pytest.fixture
def two_students(result_of):
    found = results(result_of, [0.50, 0.52, 0.51], method="d4m")
    found += results(result_of, [0.54, 0.55, 0.56], method="ddoq")
    found += results(result_of, [0.60, 0.61, 0.65], "resnet18", method="d4m")
    found += results(result_of, [0.60, 0.60, 0.66], "resnet18", method="ddoq")
    return seeded(fold(found))


def test_each_student_and_their_mean_over_pairs_of_seeds(two_students):
    found = {e.student: e for e in effects(two_students, ["d4m"])}
    assert list(found) == ["resnet18", "vit", OVER_STUDENTS]
    assert found["vit"].difference.mean == pytest.approx(0.04)
    assert found["resnet18"].difference.mean == pytest.approx(0.0)
    ours, theirs = [0.57, 0.575, 0.61], [0.55, 0.565, 0.58]
    expected = stats.ttest_rel(ours, theirs)
    assert found[OVER_STUDENTS].difference.mean == pytest.approx(0.02)
    assert found[OVER_STUDENTS].difference.p_value == pytest.approx(expected.pvalue)


def test_p_values_are_corrected_single_students_apart_from_means(two_students):
    found = {e.student: e for e in effects(two_students, ["d4m"])}
    single = [found[name].difference.p_value for name in ("resnet18", "vit")]
    corrected = stats.false_discovery_control(single)
    assert [found[name].adjusted for name in ("resnet18", "vit")] == pytest.approx(list(corrected))
    # The only mean needs no correction.
    assert found[OVER_STUDENTS].adjusted == pytest.approx(found[OVER_STUDENTS].difference.p_value)


def test_verdicts_follow_the_corrected_p_value_and_the_sign(result_of):
    found = results(result_of, [0.50, 0.52, 0.51], method="d4m")
    found += results(result_of, [0.60, 0.621, 0.61], method="ddoq")
    found += results(result_of, [0.40, 0.421, 0.41], method="sre2l")
    found += results(result_of, [0.52, 0.50, 0.515], method="random")
    verdicts = {e.row: e.verdict for e in effects(seeded(fold(found)), ["d4m"])}
    assert verdicts == {"ddoq": "better", "sre2l": "worse", "random": "no difference shown"}


def test_one_pair_of_seeds_says_nothing(result_of):
    found = results(result_of, [0.5], method="d4m") + results(result_of, [0.9], method="ddoq")
    (effect,) = effects(seeded(fold(found)), ["d4m"])
    assert effect.adjusted is None
    assert effect.verdict == "one pair of seeds: nothing can be said"


def test_a_pair_counts_in_the_mean_only_where_every_student_has_it(result_of):
    found = results(result_of, [0.5, 0.5, 0.5], method="d4m")
    found += results(result_of, [0.6, 0.7, 0.8], method="ddoq")
    found += results(result_of, [0.5, 0.5], "resnet18", method="d4m")
    found += results(result_of, [0.5, 0.6], "resnet18", method="ddoq")
    mean = next(e for e in effects(seeded(fold(found)), ["d4m"]) if e.student == OVER_STUDENTS)
    assert mean.difference.n == 2
    assert mean.difference.mean == pytest.approx((0.05 + 0.15) / 2)


def test_settings_of_a_method_are_rows_of_their_own(result_of):
    found = results(result_of, [0.5, 0.51], method="d4m")
    for power in (0.5, 1.0):
        found += results(result_of, [0.5, 0.52], method="ddoq", settings={"weight_power": power})
    rows = {e.row for e in effects(seeded(fold(found)), ["d4m"])}
    assert rows == {"ddoq [weight_power=0.5]", "ddoq [weight_power=1.0]"}
    # A method of two rows stands for both, and these two are compared once.
    pairs = {(e.row, e.against) for e in effects(seeded(fold(found)), ["ddoq"])}
    assert pairs == {
        ("d4m", "ddoq [weight_power=0.5]"),
        ("d4m", "ddoq [weight_power=1.0]"),
        ("ddoq [weight_power=1.0]", "ddoq [weight_power=0.5]"),
    }


def test_recipes_are_never_compared_with_one_another(result_of):
    found = results(result_of, [0.5, 0.51], method="d4m")
    found += results(
        result_of, [0.6, 0.6], method="ddoq", recipe_label="sre2l", recipe={"name": "sre2l"}
    )
    assert effects(seeded(fold(found)), ["d4m"]) == []


def test_other_seeds_are_left_out(result_of):
    found = results(result_of, [0.5, 0.5], method="d4m")
    found += [result_of(student="vit", seed=7, distill_seed=7, method="ddoq")]
    assert effects(seeded(fold(found)), ["d4m"]) == []


def test_what_the_correction_takes_away_is_said(result_of):
    found = results(result_of, [0.5, 0.5, 0.5], method="d4m")
    found += results(result_of, [0.510, 0.511, 0.515], method="ddoq")  # p = 0.015
    for number, noise in enumerate((0.01, -0.02, 0.03, -0.01)):
        other = [0.5 + noise, 0.5 - noise, 0.5]
        found += results(result_of, other, method=f"other{number}")
    effect = next(e for e in effects(seeded(fold(found)), ["d4m"]) if e.row == "ddoq")
    assert effect.difference.p_value < 0.05 <= effect.adjusted
    assert effect.verdict == "no difference shown once corrected"
