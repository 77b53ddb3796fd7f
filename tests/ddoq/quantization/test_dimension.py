import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization.dimension import levina_bickel, two_nn


def embedded(d: int, ambient: int, n: int = 1500) -> torch.Tensor:
    """Gaussian points of d dimensions on a turned plane of a larger space."""
    generator = torch.Generator().manual_seed(d)
    axes = torch.linalg.qr(torch.randn(ambient, d, generator=generator)).Q
    return torch.randn(n, d, generator=generator) @ axes.T + 5


@pytest.mark.parametrize("estimate", [two_nn, levina_bickel])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_a_gaussian_in_a_larger_space_has_its_own_dimension(estimate, d):
    assert estimate(embedded(d, 40)) == pytest.approx(d, rel=0.15)


@pytest.mark.parametrize("estimate", [two_nn, levina_bickel])
def test_scale_place_order_and_repetition_do_not_matter(estimate):
    points = embedded(2, 5, n=300)
    value = estimate(points)
    assert estimate(1000 * points.flip(0) - 7) == pytest.approx(value, rel=1e-3)
    assert estimate(torch.cat([points, points[:100]])) == pytest.approx(value)


def test_a_curve_has_one_dimension_wherever_it_goes():
    angle = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 6.28
    circle = torch.stack([angle.cos(), angle.sin(), (2 * angle).cos()], dim=1)
    assert two_nn(circle) == pytest.approx(1, rel=0.1)


def test_few_points_have_fewer_neighbours():
    assert levina_bickel(embedded(1, 3, n=15)) > 0


@pytest.mark.parametrize("estimate", [two_nn, levina_bickel])
def test_too_few_distinct_points_are_refused(estimate):
    with pytest.raises(UserError, match="10 distinct points at least, not 3"):
        estimate(torch.arange(3.0).repeat(10)[:, None])


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(UserError, match="discard must be in"):
        two_nn(embedded(1, 2, n=20), discard=1.0)
    with pytest.raises(UserError, match="neighbours must be"):
        levina_bickel(embedded(1, 2, n=20), neighbours=(1, 5))
