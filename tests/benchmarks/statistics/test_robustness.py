import math
import random

import pytest

from benchmarks.statistics.robustness import (
    augmentation_robust_score,
    augments,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    normalised,
    robustness,
)
from benchmarks.tables.folding import fold

CROPS = {"crop_scale": [0.5, 1.0], "flip": True, "cutmix_alpha": 1.0}
NOTHING = {"crop_scale": [1.0, 1.0], "flip": False, "cutmix_alpha": 0.0}
SOFT = {"recipe_label": "unified", "recipe": CROPS}
PLAIN = {"recipe_label": "unified[plain]", "recipe": {**NOTHING, "changed": ["flip"]}}
HARD = {"recipe_label": "hard", "recipe": {"name": "hard", "labels": "hard", **CROPS}}


@pytest.fixture
def derived(result_of):
    """Fold described results and derive their scores."""

    def derive(*described):
        return robustness(fold(result_of(**keywords) for keywords in described))

    return derive


def whole(**changes):
    """Describe everything that the scores of ddoq need."""
    needed = [
        {"top1": 0.5, **SOFT},
        {"top1": 0.4, "method": "random", **SOFT},
        {"top1": 0.3, **HARD},
        {"top1": 0.9, "method": "full", "ipc": 20, **HARD},
        {"top1": 0.25, **PLAIN},
        {"top1": 0.35, "method": "random", **PLAIN},
    ]
    return [{**entry, **changes} for entry in needed]


def of(entries, row="ddoq", recipe="unified"):
    (entry,) = (e for e in entries if (e.row, e.recipe) == (row, recipe))
    return entry


def test_scores_by_hand():
    assert hard_label_recovery(0.9, 0.3) == pytest.approx(0.6)
    assert improvement_over_random(0.5, 0.4) == pytest.approx(0.1)
    # alpha = 0.5 * 0.1 - 0.5 * 0.6 = -0.25: (0.778801 - 0.367879) / 2.350402
    assert label_robust_score(0.9, 0.3, 0.5, 0.4) == pytest.approx(0.174830, abs=1e-6)
    # alpha = 0.25 * 0.1 - 0.75 * 0.6 = -0.425: (0.653770 - 0.367879) / 2.350402
    assert label_robust_score(0.9, 0.3, 0.5, 0.4, w=0.25) == pytest.approx(0.121635, abs=1e-6)
    # beta = 0.5 * 0.2 - 0.5 * 0.1 = 0.05: (1.051271 - 0.367879) / 2.350402
    assert augmentation_robust_score(0.6, 0.4, 0.3, 0.4) == pytest.approx(0.290755, abs=1e-6)
    # beta = 0.2
    assert augmentation_robust_score(0.6, 0.4, 0.3, 0.4, g=1) == pytest.approx(0.363140, abs=1e-6)


def test_nothing_gained_or_lost_is_0269_and_the_ends_are_0_and_1():
    zero = (1 - math.exp(-1)) / (math.e - math.exp(-1))
    assert round(zero, 3) == 0.269
    assert label_robust_score(0.7, 0.7, 0.2, 0.2) == pytest.approx(zero)
    assert augmentation_robust_score(0.2, 0.2, 0.1, 0.1) == pytest.approx(zero)
    assert label_robust_score(1, 0, 0, 1) == normalised(-1) == 0
    assert label_robust_score(0, 1, 1, 0) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [(90, 30, 50, 40), (-0.1, 0, 0, 0), (0, 0, 0, 1.01)])
def test_percentages_are_refused(wrong):
    for score in (label_robust_score, augmentation_robust_score):
        with pytest.raises(ValueError, match="is no fraction"):
            score(*wrong)
    with pytest.raises(ValueError, match="is no fraction"):
        label_robust_score(0.5, 0.5, 0.5, 0.5, w=2)


def test_scores_come_from_the_tables(derived):
    entry = of(derived(*whole()))
    assert (entry.hlr, entry.ior) == (pytest.approx(0.6), pytest.approx(0.1))
    assert entry.lrs == pytest.approx(0.174830, abs=1e-6)
    # beta = 0.5 * (0.5 - 0.4) + 0.5 * (0.25 - 0.35) = 0
    assert entry.ars == pytest.approx(0.268941, abs=1e-6)
    assert (entry.hard, entry.plain, entry.missing) == ("hard", "unified[plain]", ())


def test_means_over_seeds_are_used(derived):
    others = [{"top1": 0.7, "seed": 1, **SOFT}, {"top1": 0.5, "seed": 1, **HARD}]
    entry = of(derived(*whole(), *others))
    assert entry.distilled == pytest.approx(0.6)
    assert entry.ior == pytest.approx(0.2)
    assert entry.hlr == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("number", "told", "lrs", "ars"),
    [
        (1, "random under unified", False, False),
        (2, "ddoq under hard", False, True),
        (3, "full under hard", False, True),
        (4, "ddoq under unified[plain]", True, False),
        (5, "random under unified[plain]", True, False),
    ],
)
def test_what_is_missing_is_named_and_never_guessed(derived, number, told, lrs, ars):
    described = whole()
    described.pop(number)
    found = [e for e in derived(*described) if (e.row, e.recipe) == ("ddoq", "unified")]
    if not found:  # without any score there is no table
        assert not lrs
        assert not ars
        return
    (entry,) = found
    assert told in entry.missing
    assert (entry.lrs is not None, entry.ars is not None) == (lrs, ars)


def test_a_missing_recipe_is_named(derived):
    without_hard = [d for d in whole() if d["recipe_label"] != "hard"]
    entry = of(derived(*without_hard))
    assert entry.hard is None
    assert entry.lrs is None
    assert entry.ars is not None
    assert "a recipe with hard labels" in entry.missing
    without_plain = [d for d in whole() if d["recipe_label"] != "unified[plain]"]
    assert "unified without augmentation" in of(derived(*without_plain)).missing


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"limit_per_class": 5}},
        {"data": {"source": "edited"}},
        {"student": "vit"},
        {"kwargs": {"width": 2}},
        {"config": {"precision": "16-mixed"}},
        {"config": {"teacher": "other"}},
        {"world_size": 2},
    ],
    ids=str,
)
def test_unequal_conditions_are_not_set_side_by_side(derived, change):
    described = whole()
    described[3] = {**described[3], **change}
    entry = of(derived(*described))
    assert entry.lrs is None
    assert entry.full_hard is None
    assert any(told.startswith("full under") for told in entry.missing)


def test_hard_accuracies_of_two_recipes_never_make_a_score(derived):
    described = whole()
    described[3] = {**described[3], "recipe": {**HARD["recipe"], "epochs": 6}}
    found = [e for e in derived(*described) if (e.row, e.recipe) == ("ddoq", "unified")]
    assert [(e.hard, e.lrs) for e in found] == [
        ("hard (epochs=5)", None),
        ("hard (epochs=6)", None),
    ]
    assert all(e.ars is not None for e in found)


def test_rows_of_other_settings_are_not_taken(derived):
    described = whole()
    described[2] = {**described[2], "settings": {"power": 0.5}}
    entry = of(derived(*described))
    assert entry.distilled_hard is None
    assert "ddoq under hard" in entry.missing
    described[2] = {**whole()[2], "ipc": 1}
    assert of(derived(*described)).distilled_hard is None


def test_two_kinds_of_random_selection_leave_the_score_out(derived):
    twice = {"top1": 0.2, "method": "random", "settings": {"balanced": False}, **SOFT}
    found = [e for e in derived(*whole(), *whole(student="vit"), twice) if e.student != "vit"]
    entry = of(found)
    assert entry.random is None
    assert "random under unified (several)" in entry.missing


def test_every_hard_recipe_has_its_own_line(derived):
    other = {"recipe_label": "hard", "recipe": {**HARD["recipe"], "epochs": 9}}
    more = [{"top1": 0.2, **other}, {"top1": 0.8, "method": "full", "ipc": 20, **other}]
    found = [e for e in derived(*whole(), *more) if (e.row, e.recipe) == ("ddoq", "unified")]
    assert {e.hard: e.hlr for e in found} == {
        "hard (epochs=5)": pytest.approx(0.6),
        "hard (epochs=9)": pytest.approx(0.6),
    }


def test_a_hard_recipe_is_its_own(derived):
    described = [*whole(), {"top1": 0.2, "method": "random", **HARD}]
    entry = of(derived(*described), recipe="hard")
    assert entry.hard == "hard"
    assert (entry.hlr, entry.ior) == (pytest.approx(0.6), pytest.approx(0.1))


def test_the_ceiling_is_no_row_and_nothing_gives_nothing(derived):
    assert {entry.row for entry in derived(*whole())} == {"ddoq", "random"}
    assert derived() == []
    assert derived({**SOFT}) == []


def test_order_of_results_changes_nothing(derived):
    described = [*whole(), *whole(student="vit")]
    first = derived(*described)
    for turn in range(3):
        random.Random(turn).shuffle(described)
        assert derived(*described) == first


@pytest.mark.parametrize(
    ("recipe", "does"),
    [
        (NOTHING, False),
        (CROPS, True),
        ({**NOTHING, "flip": True}, True),
        ({**NOTHING, "patch_shuffle": True}, True),
        ({**NOTHING, "color_jitter": 0.4}, True),
        ({**NOTHING, "pca_lighting": 0.1}, True),
        ({**NOTHING, "crop_scale": {"1": [1.0, 1.0], "128": [0.5, 1.0]}}, False),
        ({**NOTHING, "crop_scale": {"1": [0.5, 1.0], "128": [1.0, 1.0]}}, True),
        ({**NOTHING, "crop_scale": {"1": [0.5, 1.0], "8": [1.0, 1.0]}}, False),
    ],
)
def test_what_augments(result_of, recipe, does):
    (table,) = fold([result_of(recipe=recipe)])  # of 8 x 8 pixels
    assert augments(table) is does
