import subprocess
import sys

import pytest
import torch
from sklearn.metrics import pairwise_distances_argmin

from ddoq.quantization import assignment
from ddoq.quantization.assignment import (
    cell_means,
    cell_sums,
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
    # One far centroid swamps the scores: float32 resolves about 0.1 of them, the cells differ by less.
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(500, 8, generator=generator)
    centroids = torch.cat([torch.rand(30, 8, generator=generator), torch.full((1, 8), 1e4)])
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


SETTINGS = """
import sys, torch
from ddoq.quantization.assignment import full_precision
matmul = torch.backends.cuda.matmul
if sys.argv[1] == "global":
    torch.set_float32_matmul_precision("medium")
elif sys.argv[1] == "backend":
    matmul.fp32_precision = "tf32"
before = matmul.fp32_precision
x = torch.rand(4, 4)
with torch.autocast("cpu", dtype=torch.bfloat16):
    with full_precision():
        assert matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert (x @ x).dtype == torch.float32
    assert (x @ x).dtype == torch.bfloat16
assert matmul.fp32_precision == before
if sys.argv[1] != "backend":
    assert torch.get_float32_matmul_precision() == ("medium" if sys.argv[1] == "global" else "highest")
"""


@pytest.mark.parametrize("way", ["default", "global", "backend"])
def test_full_precision_however_it_was_set_and_restores(way):
    # A process of its own: the two ways of setting precision exclude one another within one.
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS, way], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
