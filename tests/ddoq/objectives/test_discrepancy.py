import math

import pytest
import torch

from ddoq.errors import UserError
from ddoq.objectives.discrepancy import (
    STATISTICS,
    discrepancy,
    gaussian_mixture,
    linear,
    mmd,
    polynomial,
    squared_distances,
)
from ddoq.objectives.features import mean_difference

KERNELS = [gaussian_mixture, linear, polynomial]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_squared_distances_far_from_the_origin():
    points = draw(5, 3).float() + 1000
    direct = (points[:, None] - points).square().sum(dim=2)
    distances = squared_distances(points)
    torch.testing.assert_close(distances, direct, atol=1e-3, rtol=1e-3)
    assert distances.min() == 0
    assert distances.diagonal().tolist() == [0] * 5


def test_distances_are_differentiable():
    assert torch.autograd.gradcheck(squared_distances, draw(4, 3).requires_grad_())


def test_mixture_of_two_points_by_hand():
    # One pair: the bandwidth is its own squared distance, whatever that is.
    near = sum(math.exp(-(2.0**-a)) for a in range(-2, 3))
    for distance in (0.1, 7.0):
        values = gaussian_mixture(torch.tensor([[0.0, 1.0], [distance, 1.0]]).double())
        torch.testing.assert_close(values, torch.tensor([[5.0, near], [near, 5.0]]).double())


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_discrepancy_of_two_normal_distributions(shift):
    """Of N(0, I) and N(mu, I), by the expectation of a Gaussian kernel under both."""
    size, dimension = 500, 3
    real = draw(size, dimension)
    synthetic = real + torch.tensor([shift, 0.0, 0.0])
    bandwidth = squared_distances(torch.cat([real, synthetic])).sum() / (2 * size * (2 * size - 1))
    expected, diagonal = 0.0, 0.0
    for a in range(-2, 3):
        c = float(2.0**a * bandwidth)
        # x - y is normal of variance 2: E exp(-|x - y|^2 / c) is this.
        same = (1 + 4 / c) ** (-dimension / 2)
        expected += 2 * same * (1 - math.exp(-(shift**2) / (c + 4)))
        diagonal += 2 * (1 - same) / size  # pairs of a point with itself count
    ours = mmd(real, synthetic).item()
    assert ours == pytest.approx(expected + diagonal, rel=0.08)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_estimator_is_never_negative(kernel):
    for seed in range(30):
        real, synthetic = draw(7, 2, seed=seed), 0.1 + draw(5, 2, seed=seed + 100)
        assert mmd(real, synthetic, kernel) >= 0
        assert abs(mmd(real, real[torch.randperm(7)], kernel)) < 1e-12


@pytest.mark.parametrize("kernel", KERNELS)
def test_order_copies_and_sides_do_not_matter(kernel):
    real, synthetic = draw(6, 4), draw(5, 4, seed=1)
    value = mmd(real, synthetic, kernel)
    torch.testing.assert_close(mmd(real.flip(0), synthetic[[3, 0, 4, 1, 2]], kernel), value)
    torch.testing.assert_close(mmd(synthetic, real, kernel), value)
    if kernel is not gaussian_mixture:  # whose bandwidth counts pairs
        torch.testing.assert_close(mmd(real, synthetic.repeat(3, 1), kernel), value)


def test_the_mixture_does_not_see_scale_or_place():
    real, synthetic = draw(6, 4), draw(5, 4, seed=1)
    value = mmd(real, synthetic)
    torch.testing.assert_close(mmd(100 * real + 3, 100 * synthetic + 3), value)


def test_under_the_linear_kernel_it_is_the_distance_of_means():
    real, synthetic = draw(6, 4), draw(5, 4, seed=1).requires_grad_()
    losses = [mmd(real, synthetic, linear), mean_difference(real, synthetic)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, synthetic)[0] for loss in losses]
    torch.testing.assert_close(*gradients)
    assert discrepancy("linear") is mean_difference


def test_other_kernels_see_more_than_means():
    real, synthetic = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-2.0], [2.0]])
    assert mmd(real, synthetic, linear) == 0
    # (xy + 1)^2: means (4 + 0) / 2 = 2, (9 + 1) / 2 = 5, (25 + 9) / 2 = 17
    assert mmd(real, synthetic, polynomial) == 2 - 2 * 5 + 17
    assert mmd(real, synthetic) > 0.1


def test_no_gradient_through_the_bandwidth():
    real, synthetic = draw(4, 2), draw(3, 2, seed=1)
    bandwidth = squared_distances(torch.cat([real, synthetic])).sum() / 42

    def fixed(points: torch.Tensor) -> torch.Tensor:
        distances = (points[:, None] - points).square().sum(dim=2)
        return sum(torch.exp(-distances / (2.0**a * bandwidth)) for a in range(-2, 3))

    leaf = synthetic.requires_grad_()
    ours, expected = (
        torch.autograd.grad(mmd(real, leaf, kernel), leaf)[0]
        for kernel in (gaussian_mixture, fixed)
    )
    torch.testing.assert_close(ours, expected)


def test_equal_points_are_no_division_by_zero():
    points = torch.ones(3, 2, requires_grad=True)
    loss = mmd(torch.ones(4, 2), points)
    loss.backward()
    assert loss.item() == 0
    assert points.grad.abs().max() == 0


def test_unknown_kernels_are_refused():
    assert set(STATISTICS) == {"gaussian-mixture", "linear", "polynomial"}
    with pytest.raises(UserError, match="Did you mean 'linear'"):
        discrepancy("liner")
