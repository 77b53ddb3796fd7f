import random

import pytest
from scipy.stats import kendalltau

from benchmarks.statistics.stability import kendall_tau, ranks, stability
from benchmarks.tables.folding import fold

HARD = {"recipe_label": "hard", "recipe": {"labels": "hard"}}
LONG = {"recipe_label": "long", "recipe": {"epochs": 50}}


@pytest.fixture
def folded(result_of):
    return lambda *described: fold(result_of(**keywords) for keywords in described)


def scores(recipe, **accuracies):
    return [{"method": m, "top1": a, **recipe} for m, a in accuracies.items()]


def test_ranks_share_the_better_place():
    assert ranks([]) == []
    assert ranks([0.1, 0.1, 0.1]) == [1, 1, 1]
    assert ranks([0.9, 0.5, 0.5, 0.1]) == [1, 2, 2, 4]


def test_tau_by_hand():
    # 6 pairs; only (b, c) changes its order: (5 - 1) / 6
    assert kendall_tau([4, 3, 2, 1], [4, 2, 3, 1]) == pytest.approx(2 / 3)
    # pairs ab, ac, bc; bc is tied in the first: (2 - 0) / sqrt(2 * 3)
    assert kendall_tau([3, 1, 1], [3, 2, 1]) == pytest.approx(2 / 6**0.5)
    assert kendall_tau([1, 1], [1, 2]) is None
    generator = random.Random(0)
    pairs = [(generator.randint(0, 4), generator.randint(0, 4)) for _ in range(30)]
    assert kendall_tau(*zip(*pairs, strict=True)) == pytest.approx(
        kendalltau(*zip(*pairs, strict=True)).statistic
    )


@pytest.mark.parametrize("lists", [([1], [1]), ([1, 2], [1, 2, 3]), ([], [])])
def test_tau_needs_two_items_of_each(lists):
    with pytest.raises(ValueError, match="two numbers or more"):
        kendall_tau(*lists)


def test_ranks_and_agreement_over_recipes(folded):
    (entry,) = stability(
        folded(
            *scores({}, a=0.9, b=0.8, c=0.7),
            *scores(HARD, a=0.5, b=0.6, c=0.1),
            *scores(LONG, a=0.2, b=0.3, c=0.4),
        )
    )
    assert entry.recipes == ("hard", "long", "unified")
    assert entry.ranks == {"b": (1, 2, 2), "a": (2, 3, 1), "c": (3, 1, 3)}
    taus = {(e.first, e.second): e.tau for e in entry.agreements}
    # hard b > a > c, long c > b > a, unified a > b > c
    assert taus == {
        ("hard", "long"): pytest.approx(-1 / 3),
        ("hard", "unified"): pytest.approx(1 / 3),
        ("long", "unified"): pytest.approx(-1),
    }


def test_only_common_students_count(folded):
    described = [
        *scores({}, a=0.9, b=0.8),
        *scores(HARD, a=0.9, b=0.8),
        # b beats a by far with another student, which hard has for a alone
        *scores({"student": "vit"}, a=0.1, b=0.9),
        *scores({"student": "vit", **HARD}, a=0.1),
    ]
    (entry,) = stability(folded(*described))
    assert entry.students == ("resnet18",)
    assert entry.ranks == {"a": (1, 1), "b": (2, 2)}
    assert entry.agreements[0].tau == 1


def test_a_recipe_that_shares_one_method_takes_no_part(folded):
    described = [*scores({}, a=0.9, b=0.8), *scores(HARD, a=0.5, b=0.6), *scores(LONG, a=0.2)]
    (entry,) = stability(folded(*described))
    assert entry.recipes == ("hard", "unified")
    assert len(entry.agreements) == 1


def test_pairs_stand_where_all_recipes_together_share_too_little(folded):
    described = [
        *scores({}, a=0.9, b=0.8, c=0.7, d=0.6),
        *scores(HARD, a=0.5, b=0.6),
        *scores(LONG, c=0.2, d=0.1),
    ]
    (entry,) = stability(folded(*described))
    assert entry.ranks == {}
    assert [(e.methods, e.tau) for e in entry.agreements] == [(("a", "b"), -1), (("c", "d"), 1)]


@pytest.mark.parametrize(
    "described",
    [
        [],
        scores({}, a=0.9, b=0.8),
        [*scores({}, a=0.9), *scores(HARD, a=0.9)],
        [*scores({}, a=0.9, b=0.8), *scores(HARD, c=0.9, d=0.8)],
        [*scores({}, a=0.9, b=0.8), *scores({"ipc": 1, **HARD}, a=0.9, b=0.8)],
        [*scores({}, a=0.9, b=0.8), *scores({"data": {"source": "x"}, **HARD}, a=0.9, b=0.8)],
        [*scores({}, a=0.9, b=0.8), *scores({"student": "vit", **HARD}, a=0.9, b=0.8)],
        [*scores({}, a=0.9, full=0.8), *scores(HARD, a=0.9, full=0.8)],
    ],
)
def test_nothing_where_nothing_applies(folded, described):
    assert stability(folded(*described)) == []


def test_settings_and_datasets_are_told_apart(folded):
    other = {"settings": {"power": 0.5}}
    small = {"data": {"limit_per_class": 5}}
    described = [
        {**entry, **where}
        for where in ({}, small)
        for recipe in ({}, HARD)
        for entry in [
            {"top1": 0.5, **recipe},
            {"top1": 0.6, **other, **recipe},
        ]
    ]
    found = stability(folded(*described))
    assert sorted(entry.distinction for entry in found) == [
        "limit_per_class=5",
        "limit_per_class=null",
    ]
    for entry in found:
        assert list(entry.ranks) == ["ddoq [power=0.5]", "ddoq [power=absent]"]


def test_order_of_results_changes_nothing(folded):
    described = [
        *scores({}, a=0.9, b=0.8, c=0.8),
        *scores(HARD, a=0.5, b=0.6, c=0.6),
        *scores({"student": "vit"}, a=0.9, b=0.8),
    ]
    first = stability(folded(*described))
    for turn in range(3):
        random.Random(turn).shuffle(described)
        assert stability(folded(*described)) == first
