import torch

from ddoq.quantization.geometry import Coordinates, InnerProducts
from ddoq.quantization.plusplus import distinct, plusplus
from ddoq.seeding import generator_for


def test_labels_and_distances_are_those_of_the_seeds(cloud):
    points = cloud(150, 4, offset=0.0)
    seeds, labels, distances = plusplus(Coordinates(points), 12, generator_for(0))
    exact = torch.cdist(points.double(), points[seeds].double()).square()
    assert len(seeds.unique()) == 12
    assert torch.equal(labels, exact.argmin(1))
    torch.testing.assert_close(distances, exact.amin(1).float(), rtol=1e-4, atol=1e-4)


def test_every_far_cluster_gets_a_seed():
    generator = torch.Generator().manual_seed(0)
    cluster = torch.arange(200) % 10
    points = torch.eye(10)[cluster] * 1000 + torch.randn(200, 10, generator=generator)
    for seed in range(10):
        seeds, _, _ = plusplus(Coordinates(points), 10, generator_for(seed))
        assert sorted(cluster[seeds].tolist()) == list(range(10))


def test_geometries_agree(cloud):
    points = cloud(80, 200, offset=0.0)
    for seed in range(5):
        first, *_ = plusplus(Coordinates(points), 9, generator_for(seed))
        second, *_ = plusplus(InnerProducts(points), 9, generator_for(seed))
        assert torch.equal(first, second)


def test_first_seed_is_uniform(cloud):
    geometry = Coordinates(cloud(10, 2))
    drawn = [int(plusplus(geometry, 1, generator_for(seed))[0]) for seed in range(1000)]
    frequency = torch.bincount(torch.tensor(drawn), minlength=10)
    # Chi-squared with 9 degrees of freedom exceeds 27.9 once in a thousand.
    assert float(((frequency - 100) ** 2 / 100).sum()) < 27.9


def test_fewer_distinct_points_than_seeds():
    points = torch.tensor([[0.0], [0.0], [0.0], [1.0], [1.0]])
    seeds, labels, distances = plusplus(Coordinates(points), 4, generator_for(0))
    assert len(seeds.unique()) == 4
    assert set(points[seeds].flatten().tolist()) == {0.0, 1.0}
    assert not distances.any()
    assert len(labels.unique()) == 2


def test_repeated_positions_are_replaced():
    assert distinct(torch.tensor([3, 1, 3, 0, 3]), 6).tolist() == [3, 1, 2, 0, 4]
