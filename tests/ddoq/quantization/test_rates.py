import math

import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization import quantize, wasserstein2
from ddoq.quantization.codebook import make_codebook
from ddoq.quantization.rates import fit_power_law, implied_dimension


def test_a_power_law_is_recovered_with_an_interval_of_no_width():
    law = fit_power_law([1, 2, 5, 10], [3.0 * k**-0.7 for k in (1, 2, 5, 10)])
    assert law.exponent == pytest.approx(-0.7)
    assert (law.low, law.high) == (pytest.approx(-0.7), pytest.approx(-0.7))
    assert law.at(20) == pytest.approx(3.0 * 20**-0.7)
    assert law.points == 4


def test_the_interval_covers_the_exponent_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    sizes = [2, 4, 8, 16, 32, 64]
    covered = 0
    for _ in range(200):
        noise = (0.1 * torch.randn(len(sizes), generator=generator)).exp().tolist()
        law = fit_power_law(sizes, [k**-0.4 * e for k, e in zip(sizes, noise, strict=True)])
        covered += law.low <= -0.4 <= law.high
    assert 180 <= covered <= 199  # 190 are expected, with a standard deviation of 3


def test_two_points_have_no_interval():
    law = fit_power_law([1, 10], [1.0, 0.1])
    assert (law.exponent, law.low, law.high) == (pytest.approx(-1), None, None)


@pytest.mark.parametrize(
    ("sizes", "values"),
    [([2, 2], [1, 1]), ([1], [1]), ([1, 2], [1, 0]), ([1, 2], [1, math.nan]), ([1, 2, 3], [1, 2])],
)
def test_what_has_no_logarithm_or_no_slope_is_refused(sizes, values):
    with pytest.raises(UserError, match="power law needs"):
        fit_power_law(sizes, values)


def test_the_dimension_follows_from_the_rate():
    assert implied_dimension(-2 / 7) == pytest.approx(7)
    assert implied_dimension(-1 / 7, order=1) == pytest.approx(7)
    assert implied_dimension(0.1) == math.inf


@pytest.mark.parametrize("d", [1, 2, 3])
def test_uniform_points_on_a_cube_are_quantised_at_the_rate_of_zador(d):
    generator = torch.Generator().manual_seed(d)
    points = torch.rand(4000, d, generator=generator)
    held_out = torch.rand(4000, d, generator=generator)
    sizes = [8, 16, 32, 64]
    books = [quantize(points, k, seed=0) for k in sizes]
    law = fit_power_law(sizes, [book.distortion for book in books])
    assert implied_dimension(law.exponent) == pytest.approx(d, rel=0.15)
    unseen = fit_power_law(
        sizes, [make_codebook(held_out, book.centroids).distortion for book in books]
    )
    assert implied_dimension(unseen.exponent) == pytest.approx(d, rel=0.2)
    assert unseen.at(64) > law.at(64)  # centroids have seen their own points
    w2 = fit_power_law(sizes, [wasserstein2(points, book) for book in books])
    assert implied_dimension(w2.exponent, order=1) == pytest.approx(implied_dimension(law.exponent))
