import pytest
import torch

from ddoq.quantization.assignment import cell_sums
from ddoq.quantization.geometry import (
    Coordinates,
    InnerProducts,
    choose_geometry,
    symmetric_product,
)


def centred(points):
    return points - points.mean(0)


def test_symmetric_product(cloud):
    rows = cloud(70, 30)
    product = symmetric_product(rows, block=16)
    exact = rows.double() @ rows.double().T
    torch.testing.assert_close(product.double(), exact, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", [Coordinates, InnerProducts])
def test_distances_against_differences(kind, cloud):
    points = centred(cloud(60, 90))
    geometry = kind(points)
    indices, labels = torch.tensor([4, 17]), torch.arange(60) % 7
    exact = torch.cdist(points[indices].double(), points.double()).square().float()
    torch.testing.assert_close(geometry.distances_from(indices), exact, rtol=1e-4, atol=1e-4)
    counts = torch.bincount(labels, minlength=8)
    chosen, squared = geometry.assign(cell_sums(geometry.rows, labels, 8), labels, counts)
    means = torch.stack([points[labels == cell].double().mean(0) for cell in range(7)])
    least = torch.cdist(points.double(), means).square().min(1)
    assert torch.equal(chosen, least.indices)  # the empty eighth cell attracts nothing
    torch.testing.assert_close(squared, least.values.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [Coordinates, InnerProducts])
def test_equal_points_have_distance_zero(kind, cloud):
    points = centred(cloud(30, 50)).repeat(2, 1)
    distances = kind(points).distances_from(torch.arange(30))
    assert torch.equal(distances.diagonal(30), torch.zeros(30))
    assert torch.equal(distances.diagonal(), torch.zeros(30))


def test_choice_follows_cost(cloud):
    assert isinstance(choose_geometry(cloud(40, 60), 5, 1), InnerProducts)
    assert isinstance(choose_geometry(cloud(60, 40), 5, 1), Coordinates)
    assert isinstance(choose_geometry(cloud(200, 300), 2, 1), Coordinates)
    assert isinstance(choose_geometry(cloud(200, 300), 2, 3), InnerProducts)
