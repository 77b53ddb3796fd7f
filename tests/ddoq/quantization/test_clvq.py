import pytest
import torch

from ddoq.quantization import quantize
from ddoq.quantization.clvq import clvq, learn


def test_a_batch_is_the_running_mean_of_the_online_rule(cloud):
    centroids, batch = cloud(6, 4), cloud(80, 4, seed=1)
    counts = torch.tensor([1, 5, 2, 1, 9, 3])
    winners = torch.cdist(batch.double(), centroids.double()).argmin(1)
    online, seen = centroids.double().clone(), counts.clone()
    for point, winner in zip(batch.double(), winners.tolist(), strict=True):
        seen[winner] += 1
        online[winner] += (point - online[winner]) / seen[winner]
    learned, total = learn(centroids, counts, batch)
    assert torch.equal(total, seen)
    torch.testing.assert_close(learned.double(), online, rtol=1e-5, atol=1e-5)


def test_losers_stay(cloud):
    centroids = torch.tensor([[0.0], [100.0]])
    learned, counts = learn(centroids, torch.tensor([1, 1]), torch.tensor([[1.0], [2.0]]))
    assert learned.tolist() == [[1.0], [100.0]]
    assert counts.tolist() == [3, 1]


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_every_point_counts_once_a_pass(passes, batch_size, cloud):
    book = quantize(cloud(150), 8, method="clvq", passes=passes, batch_size=batch_size)
    assert int(book.online_counts.sum()) == 150 * passes
    assert int(book.counts.sum()) == 150
    assert int(book.online_counts.min()) >= 1


def test_one_pass_with_one_centroid_is_the_mean(cloud):
    points = cloud(150, 3)
    book = quantize(points, 1, method="clvq", batch_size=4)
    torch.testing.assert_close(book.centroids[0], points.mean(0))
    assert book.online_counts.tolist() == [150]


def test_centroids_are_means_of_what_they_won():
    # Far apart clusters never exchange points: running mean, exact mean and counts coincide.
    generator = torch.Generator().manual_seed(0)
    points = 100 * torch.eye(4).repeat(25, 1) + torch.randn(100, 4, generator=generator)
    book = quantize(points, 4, method="clvq", batch_size=3)
    assert book.online_counts.tolist() == book.counts.tolist() == [25] * 4
    for centroid in book.centroids:
        members = points[points.argmax(1) == centroid.argmax()]
        torch.testing.assert_close(centroid, members.mean(0))


def test_repeated_points_keep_the_sum():
    points = torch.tensor([[0.0]] * 30 + [[1.0]] * 10)
    book = clvq(points, 5, passes=2)
    assert int(book.online_counts.sum()) == 80
    assert book.distortion == 0


def test_lies_between_random_and_lloyd(cloud):
    points = cloud(1000, 8)
    loss = {
        method: sum(quantize(points, 12, method=method, seed=s).distortion for s in range(5))
        for method in ("random", "clvq", "lloyd")
    }
    assert loss["lloyd"] < loss["clvq"] < loss["random"]
