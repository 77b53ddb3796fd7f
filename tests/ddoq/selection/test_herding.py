import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection import herding


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def brute_force(features: torch.Tensor, k: int) -> list[int]:
    """Take, of all points that are left, the first whose addition brings the mean nearest."""
    values = features.double()
    mean = values.mean(dim=0)
    chosen: list[int] = []
    for _ in range(k):
        gaps = {
            i: float((values[[*chosen, i]].mean(dim=0) - mean).norm())
            for i in range(len(values))
            if i not in chosen
        }
        chosen.append(min(gaps, key=lambda i: gaps[i]))
    return chosen


@pytest.mark.parametrize(("n", "d", "k"), [(12, 3, 5), (30, 8, 30), (7, 1, 4), (5, 40, 5)])
def test_equals_brute_force(n, d, k):
    features = points(n, d, seed=n)
    assert herding(features, k).tolist() == brute_force(features, k)


def test_a_smaller_selection_begins_a_larger_one():
    features = points(20, 4)
    assert torch.equal(herding(features, 9)[:4], herding(features, 4))


def test_everything_is_selected_once():
    assert sorted(herding(points(15, 2), 15).tolist()) == list(range(15))


def test_of_copies_the_first_is_taken_and_none_twice():
    # Powers of two, so that means and distances are exact and ties are true ties.
    features = torch.tensor([[2.0], [0.0], [2.0], [0.0]])
    assert herding(features, 4).tolist() == [0, 1, 2, 3]
    assert herding(torch.ones(3, 2), 3).tolist() == [0, 1, 2]


def test_a_distant_origin_changes_nothing():
    features = points(25, 6)
    moved = features.double() + 2.0**20
    assert torch.equal(herding(features, 10), herding(moved, 10))


def test_the_mean_of_the_selection_is_nearer_than_that_of_random_points():
    features = points(200, 5)
    gap = (features[herding(features, 10)].mean(0) - features.mean(0)).norm()
    random = [
        (features[torch.randperm(200, generator=torch.Generator().manual_seed(s))[:10]].mean(0))
        for s in range(50)
    ]
    assert gap < min((mean - features.mean(0)).norm() for mean in random)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_wrong_numbers_are_refused(k):
    with pytest.raises(UserError, match=r"k must be in 1\.\.3"):
        herding(points(3, 2), k)


def test_wrong_features_are_refused():
    with pytest.raises(UserError, match="NaN"):
        herding(torch.tensor([[1.0], [torch.nan]]), 1)
    with pytest.raises(UserError, match=r"\(n, d\)"):
        herding(torch.ones(3), 1)
