import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from ddoq.quantization import assignment
from ddoq.quantization.assignment import (
    cell_means,
    cell_sums,
    full_precision,
    nearest,
    squared_distances,
)

EXACT = "donot_use_mm_for_euclid_dist"


@pytest.mark.parametrize(("n", "d", "k"), [(300, 3, 7), (50, 400, 20), (1000, 1, 30), (9, 2, 1)])
def test_nearest_agrees_with_scikit_learn(n, d, k, cloud):
    points, centroids = cloud(n, d), cloud(k, d, seed=1)
    expected = pairwise_distances_argmin(points.double().numpy(), centroids.double().numpy())
    assert nearest(points, centroids).tolist() == expected.tolist()


def test_nearest_survives_cancellation():
    # At an offset of 1e4 the squares are 1e8, where float32 resolves 8; the true distances are below 1.
    generator = torch.Generator().manual_seed(0)
    points = 1e4 + torch.rand(500, 4, generator=generator)
    centroids = 1e4 + torch.rand(40, 4, generator=generator)
    exact = torch.cdist(points.double(), centroids.double(), compute_mode=EXACT).argmin(1)
    assert torch.equal(nearest(points, centroids), exact)


def test_nearest_decides_near_ties_exactly():
    # One far centroid swamps the scores of two close ones; each point differs by one float32 step.
    points = torch.tensor([[1.0], [1.0 + 2**-22], [1.0 - 2**-23]])
    centroids = torch.tensor([[1.0 - 2**-22], [1.0 + 2**-21], [1e6]])
    exact = torch.cdist(points.double(), centroids.double(), compute_mode=EXACT).argmin(1)
    assert torch.equal(nearest(points, centroids), exact)


def test_nearest_takes_the_first_of_equal_centroids(cloud):
    centroids = cloud(1, 6).repeat(5, 1)
    assert nearest(cloud(40, 6), centroids).tolist() == [0] * 40


def test_blocks_do_not_matter(cloud, monkeypatch):
    points, centroids = cloud(500, 6), cloud(10, 6, seed=2)
    labels = nearest(points, centroids)
    means, squared = (
        cell_means(points, labels, centroids),
        squared_distances(points, centroids, labels),
    )
    monkeypatch.setattr(assignment, "ELEMENTS_CPU", 50)
    assert torch.equal(nearest(points, centroids), labels)
    torch.testing.assert_close(cell_means(points, labels, centroids), means)
    assert torch.equal(squared_distances(points, centroids, labels), squared)


def test_distances_and_means_against_loops(cloud):
    points, centroids = cloud(100, 4), cloud(6, 4, seed=1)
    labels = torch.arange(100) % 5
    squared = squared_distances(points, centroids, labels)
    for row in range(100):
        difference = points[row].double() - centroids[labels[row]].double()
        assert float(squared[row]) == pytest.approx(float(difference @ difference), rel=1e-14)
    means, sums = cell_means(points, labels, centroids), cell_sums(points, labels, 6)
    for cell in range(5):
        torch.testing.assert_close(means[cell], points[labels == cell].mean(0))
        torch.testing.assert_close(sums[cell], points[labels == cell].sum(0))
    assert torch.equal(means[5], centroids[5])
    assert not sums[5].any()


def test_full_precision_shuts_off_autocast_and_restores(cloud):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with full_precision(torch.device("cpu")):
                assert torch.get_float32_matmul_precision() == "highest"
                assert (cloud() @ cloud().T).dtype == torch.float32
            assert (cloud() @ cloud().T).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
