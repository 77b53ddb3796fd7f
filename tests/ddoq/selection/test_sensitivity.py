import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection.sensitivity import kmeans_sensitivities, sensitivities


def test_they_are_shares_of_the_cost_and_of_the_cluster():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    centroids = torch.cat([points[:4] + 0.1, torch.full((1, 3), 99.0)])  # nobody is near the last
    scores = sensitivities(points, centroids)
    squared = (points[:, None].double() - centroids.double()).square().sum(-1)
    nearest, cluster = squared.min(1)
    sizes = torch.tensor([int((cluster == label).sum()) for label in cluster])
    torch.testing.assert_close(scores, nearest / nearest.sum() + 1 / sizes)
    assert scores.sum().item() == pytest.approx(1 + 4)


def test_where_all_points_are_centroids_they_are_alike():
    points = torch.arange(6.0).reshape(3, 2)
    torch.testing.assert_close(sensitivities(points, points), torch.full((3,), 4 / 3).double())
    torch.testing.assert_close(
        kmeans_sensitivities(points, 9, seed=0), torch.full((3,), 4 / 3).double()
    )


def test_the_far_point_and_the_small_cluster_count_most():
    points = torch.cat(
        [torch.randn(30, 2, generator=torch.Generator().manual_seed(1)), torch.full((1, 2), 50.0)]
    )
    scores = kmeans_sensitivities(points, 2, seed=0)
    assert scores.argmax() == 30
    assert scores.sum().item() == pytest.approx(3)


def test_centroids_of_another_width_are_refused():
    with pytest.raises(UserError, match="a matrix with 2 columns"):
        sensitivities(torch.zeros(3, 2), torch.zeros(2, 3))
