from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from ddoq.augmentation.views import Views, ViewSettings, blur, draw_views, make_view, turn_hue

STILL = ViewSettings((1.0, 1.0), 0.0, (0.0, 0.0, 0.0, 0.0), 0.0, 0.0)
SIZE = (16, 16)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def draw(settings: ViewSettings, n: int = 6, **keys: int) -> Views:
    return draw_views(n, SIZE, settings, **{"seed": 0, "epoch": 0, "view": 0, **keys})


def test_without_any_change_an_image_stays_as_it_is(images):
    assert torch.allclose(make_view(images, draw(STILL)), images, atol=1e-6)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"view": 1}])
def test_draws_are_keyed_by_seed_epoch_and_view(change):
    first, again, other = draw(ViewSettings()), draw(ViewSettings()), draw(ViewSettings(), **change)
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name))
    assert not torch.equal(first.crops, other.crops)
    assert not torch.equal(first.factors, other.factors)


def test_one_kind_does_not_shift_the_draws_of_another():
    plain, blurred = draw(ViewSettings()), draw(ViewSettings(blur=1.0, solarise=1.0))
    assert torch.equal(plain.crops, blurred.crops)
    assert torch.equal(plain.hue, blurred.hue)


def test_shares_are_the_probabilities():
    drawn = draw(ViewSettings(grey=0.3, blur=0.1, solarise=0.6, jitter_chance=0.8), n=4000)
    assert drawn.grey.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (drawn.sigma > 0).float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert drawn.solarised.float().mean().item() == pytest.approx(0.6, abs=0.03)
    assert (drawn.hue != 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    recoloured = (drawn.factors != 1).any(dim=1)
    assert torch.equal(recoloured, drawn.hue != 0)  # colours change all together or not at all
    assert drawn.hue.abs().max() <= 0.1
    low, high = drawn.factors.amin(dim=0), drawn.factors.amax(dim=0)
    assert torch.allclose(low, torch.tensor([0.6, 0.6, 0.8]), atol=0.01)
    assert torch.allclose(high, torch.tensor([1.4, 1.4, 1.2]), atol=0.01)


def test_grey_and_solarised_views_are_torchvisions(images):
    drawn = draw(STILL)
    grey = replace(drawn, grey=torch.tensor([True, False] * 3))
    seen = make_view(images, grey)
    assert torch.allclose(seen[::2], tv.rgb_to_grayscale(images[::2], 3), atol=1e-6)
    assert torch.allclose(seen[1::2], images[1::2], atol=1e-6)
    inverted = make_view(images, replace(drawn, solarised=torch.ones(6, dtype=torch.bool)))
    assert torch.allclose(inverted, tv.solarize(images, 0.5), atol=1e-6)


def test_blurring_is_torchvisions_with_a_gaussian_an_image(images):
    sigma = torch.tensor([0.3, 0.7, 1.0, 1.4, 1.8, 2.0])
    found = blur(images, sigma)
    for image, seen, value in zip(images, found, sigma.tolist(), strict=True):
        assert torch.allclose(seen, tv.gaussian_blur(image, [13, 13], [value]), atol=1e-5)
    assert torch.allclose(blur(images, torch.zeros(6)), images)
    tiny = torch.rand(2, 3, 4, 4)
    assert blur(tiny, torch.full((2,), 2.0)).shape == tiny.shape  # a side below the Gaussian's


def test_hue_turns_colours_and_leaves_greys(images):
    grey = tv.rgb_to_grayscale(images, 3)
    turns = torch.linspace(-0.5, 0.5, 6)
    assert torch.allclose(turn_hue(grey, turns), grey, atol=1e-6)
    third = torch.full((6,), 1 / 3)
    assert torch.allclose(turn_hue(images, third), images.roll(1, dims=1), atol=1e-5)
    mild = turn_hue(images, torch.full((6,), 0.05)) - images
    theirs = tv.adjust_hue(images, 0.05) - images  # in HSV: another way in the same direction
    assert torch.cosine_similarity(mild.flatten(), theirs.flatten(), dim=0) > 0.7


def test_rows_are_those_of_the_images(images):
    drawn = draw(ViewSettings(blur=0.5, solarise=0.5))
    whole = make_view(images, drawn)
    some = torch.tensor([4, 1])
    assert torch.allclose(make_view(images[some], drawn.rows(some)), whole[some], atol=1e-6)
    assert whole.min() >= 0
    assert whole.max() <= 1
