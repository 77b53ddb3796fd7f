from itertools import combinations

import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection import k_center


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def brute_force(features: torch.Tensor, k: int) -> list[int]:
    values = features.double()
    distance = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
    chosen = [int((values - values.mean(dim=0)).norm(dim=1).argmin())]
    while len(chosen) < k:
        left = [i for i in range(len(values)) if i not in chosen]
        chosen.append(max(left, key=lambda i: float(distance[i, chosen].min())))
    return chosen


def radius(features: torch.Tensor, chosen: list[int]) -> float:
    return float(torch.cdist(features, features[chosen]).min(dim=1).values.max())


@pytest.mark.parametrize(("n", "d", "k"), [(12, 3, 5), (30, 8, 30), (7, 1, 4), (5, 40, 5)])
def test_equals_brute_force(n, d, k):
    features = points(n, d, seed=n)
    assert k_center(features, k).tolist() == brute_force(features, k)


def test_radius_is_at_most_twice_the_best():
    for seed in range(10):
        features = points(9, 2, seed)
        best = min(radius(features, list(c)) for c in combinations(range(9), 3))
        assert radius(features, k_center(features, 3).tolist()) <= 2 * best + 1e-6


def test_a_smaller_selection_begins_a_larger_one():
    features = points(20, 4)
    assert torch.equal(k_center(features, 9)[:4], k_center(features, 4))


def test_of_copies_the_first_is_taken_and_none_twice():
    features = torch.tensor([[2.0], [0.0], [2.0], [0.0]])
    assert k_center(features, 4).tolist() == [0, 1, 2, 3]
    assert k_center(torch.ones(3, 2), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("k", [0, 4])
def test_wrong_numbers_are_refused(k):
    with pytest.raises(UserError, match=r"k must be in 1\.\.3"):
        k_center(points(3, 2), k)
