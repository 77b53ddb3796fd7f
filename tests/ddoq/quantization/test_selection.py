import itertools

import pytest
import torch

from ddoq.quantization import quantize
from ddoq.quantization.codebook import make_codebook
from ddoq.quantization.selection import medoid, pairwise_squared


@pytest.mark.parametrize("method", ["random", "medoid"])
def test_centroids_are_distinct_points(method, cloud):
    points = cloud(200, 5)
    book = quantize(points, 30, method=method)
    assert len(book.indices.unique()) == 30
    assert torch.equal(points[book.indices], book.centroids)
    assert torch.equal(book.counts, make_codebook(points, book.centroids).counts)


def test_random_is_uniform(cloud):
    points = cloud(10, 2)
    drawn = torch.stack(
        [quantize(points, 3, method="random", seed=seed).indices for seed in range(1000)]
    )
    frequency = torch.bincount(drawn.flatten(), minlength=10)
    # Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand; without replacement it is less.
    assert float(((frequency - 300) ** 2 / 300).sum()) < 27.9


def test_medoids_are_nearest_to_the_centroids_of_lloyd(cloud):
    points = cloud(300, 4)
    lloyd, book = (quantize(points, 9, method=m, seed=2, restarts=3) for m in ("lloyd", "medoid"))
    expected = torch.cdist(lloyd.centroids.double(), points.double()).argmin(1)
    assert torch.equal(book.indices, expected)
    assert book.distortion > lloyd.distortion


def test_shared_nearest_points_are_resolved_at_least_cost():
    points = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    centroids = torch.tensor([[0.1], [0.2], [0.3]])
    book = medoid(points, make_codebook(points, centroids))
    squared = pairwise_squared(centroids, points)
    best = min(
        float(squared[range(3), list(chosen)].sum())
        for chosen in itertools.permutations(range(4), 3)
    )
    assert float(squared[range(3), book.indices].sum()) == pytest.approx(best)
    assert sorted(book.indices.tolist()) == [0, 1, 2]


def test_medoids_of_repeated_points_are_distinct_positions():
    points = torch.tensor([[0.0]] * 5 + [[1.0]] * 5)
    book = quantize(points, 6, method="medoid")
    assert len(book.indices.unique()) == 6
    assert int(book.counts.sum()) == 10
    assert book.distortion == 0


def test_pairwise_squared_does_not_cancel():
    left, right = torch.tensor([[4096.0, 0.0]]), torch.tensor([[4096.0, 2**-10], [4097.0, 1.0]])
    assert pairwise_squared(left, right).tolist() == [[2**-20, 2.0]]
