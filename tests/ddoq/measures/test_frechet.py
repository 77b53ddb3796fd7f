import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from ddoq.errors import UserError
from ddoq.measures.frechet import fit_gaussian, frechet_distance


def features(n: int, d: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99))
    return scale * torch.randn(n, d, generator=draws) @ mixing + seed


def by_torchmetrics(first: torch.Tensor, second: torch.Tensor) -> float:
    moments = [(x.double().mean(0), x.double().T.cov()) for x in (first, second)]
    return float(_compute_fid(*moments[0], *moments[1]))


@pytest.mark.parametrize("counts", [(60, 80), (60, 5), (5, 4)], ids=str)
def test_equals_torchmetrics_with_more_and_with_fewer_images_than_features(counts):
    first, second = features(counts[0], 12, 1), features(counts[1], 12, 2, scale=1.5)
    ours = frechet_distance(fit_gaussian(first), fit_gaussian(second))
    assert ours == pytest.approx(by_torchmetrics(first, second), rel=1e-6)
    assert ours > 1


def test_one_dimension_has_a_closed_form():
    """(difference of means)^2 + (difference of deviations)^2."""
    first, second = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [9.0]])
    expected = 3.0**2 + (float(second.std()) - 2.0) ** 2
    ours = frechet_distance(fit_gaussian(first), fit_gaussian(second))
    assert ours == pytest.approx(expected, rel=1e-6)


def test_equal_features_are_at_no_distance_and_order_of_sets_does_not_matter():
    first, second = fit_gaussian(features(7, 30, 1)), fit_gaussian(features(9, 30, 2))
    assert 0 <= frechet_distance(first, first) < 1e-9 * first.total_variance
    forth, back = frechet_distance(first, second), frechet_distance(second, first)
    assert forth == pytest.approx(back, rel=1e-12)


def test_few_images_bias_it_upwards():
    """Why distances are compared at equal numbers of images only."""
    reference = fit_gaussian(features(4000, 8, 1))
    again = features(4000, 8, 1) + 0  # of the same distribution, in another order
    few, many = (fit_gaussian(again[:n]) for n in (10, 1000))
    assert frechet_distance(few, reference) > 5 * frechet_distance(many, reference)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (torch.zeros(1, 3), "two images or more"),
        (torch.zeros(4), "two images or more"),
        (torch.tensor([[0.0], [float("nan")]]), "must be finite"),
    ],
)
def test_what_has_no_distance_is_refused(wrong, told):
    with pytest.raises(UserError, match=told):
        fit_gaussian(wrong)


def test_features_of_other_networks_are_refused():
    with pytest.raises(UserError, match="of 3 and of 4 dimensions"):
        frechet_distance(fit_gaussian(features(5, 3, 0)), fit_gaussian(features(5, 4, 0)))
