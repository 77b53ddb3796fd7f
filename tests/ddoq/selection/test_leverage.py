import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection.leverage import effective_dimension, leverage_scores


def features(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n + d))


@pytest.mark.parametrize("shape", [(20, 5), (5, 20), (9, 9)])
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 3.0])
def test_they_are_the_diagonal_of_the_hat_matrix_and_sum_to_the_effective_dimension(shape, ridge):
    points = features(*shape).double()
    kernel = points @ points.T
    penalty = ridge * kernel.trace() / len(points)
    hat = kernel @ torch.linalg.inv(kernel + penalty * torch.eye(len(points)))
    scores = leverage_scores(points, ridge)
    torch.testing.assert_close(scores, hat.diagonal())
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores.sum().item() == pytest.approx(effective_dimension(points, ridge))


def test_without_a_ridge_they_count_dimensions():
    assert leverage_scores(features(20, 5), 1e-8).sum().item() == pytest.approx(5, abs=1e-3)


def test_a_point_of_its_own_direction_counts_most():
    points = torch.cat([features(30, 3), torch.zeros(30, 1)], dim=1)
    points[7] = torch.tensor([0.0, 0.0, 0.0, 2.0])
    scores = leverage_scores(points, 1e-3)
    assert scores.argmax() == 7
    assert leverage_scores(torch.zeros(4, 2), 0.1).tolist() == [0] * 4


def test_what_has_no_scores_is_refused():
    with pytest.raises(UserError, match="ridge must be above 0"):
        leverage_scores(features(4, 2), 0.0)
    with pytest.raises(UserError):
        leverage_scores(torch.full((3, 2), torch.nan), 0.1)
