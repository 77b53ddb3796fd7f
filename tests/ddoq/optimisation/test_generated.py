import pytest
import torch
from torch import nn

from ddoq.optimisation.generated import GeneratorLatents, pull_back, render
from ddoq.optimisation.pixels import Pixels
from ddoq.storage.checkpoints import flatten, unflatten

TARGET = torch.linspace(-3, 3, 24).reshape(2, 3, 2, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


class Styled(nn.Module):
    """A convolution whose output a style scales."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(4, 3, 3, padding=1).requires_grad_(False)

    def forward(self, features, styles):
        made = torch.tanh(self.convolution(features))
        return made if styles is None else made * (1 + styles.mean(dim=1)[:, :, None, None])


def cost(images):
    return (images - draw(3, 6, 6, seed=5)).pow(4).mean()


def identity(features, styles):
    return features


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_with_a_generator_that_does_nothing_they_are_pixels_bit_for_bit(momentum):
    start = draw(7, 3, 2, 2)
    pixels = Pixels(start, 0.3, momentum)
    latents = GeneratorLatents(
        identity, start, lr=0.3, lr_styles=0.0, momentum=momentum, bound=10.0, chunk=3
    )
    for step in range(12):
        for images in (pixels, latents):
            images.descend((images.images - step).pow(2).mean())
        assert torch.equal(pixels.images, latents.images)
        assert torch.equal(pixels.loss, latents.loss)
    for images in (pixels, latents):
        images.coast(3)
    torch.testing.assert_close(pixels.result(), latents.result())  # pixels coast in one go


@pytest.mark.parametrize("chunk", [1, 2, 5, 6, 100])
@pytest.mark.parametrize("styled", [False, True])
def test_two_passes_in_chunks_are_autograd(chunk, styled):
    decode = Styled()
    features = draw(5, 4, 6, 6).requires_grad_()
    styles = draw(5, 2, 3, seed=1).requires_grad_() if styled else None
    leaves = [features, *([styles] if styled else [])]
    whole = torch.autograd.grad(cost(decode(features, styles)), leaves)
    images = render(decode, features.detach(), styles, chunk).requires_grad_()
    (by_images,) = torch.autograd.grad(cost(images), images)
    found = pull_back(decode, features, styles, by_images, chunk)
    assert (found[1] is None) == (not styled)
    for one, other in zip(found, whole, strict=False):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    assert not images.grad_fn  # the loss sees no generator


def test_a_gradient_that_nothing_depends_on_is_zero():
    by_features, by_styles = pull_back(identity, draw(3, 2), draw(3, 1, 1), draw(3, 2, seed=1))
    assert torch.equal(by_features, draw(3, 2, seed=1))
    assert torch.equal(by_styles, torch.zeros(3, 1, 1))


def test_steps_by_hand():
    def decode(features, styles):  # an image of one pixel: feature times style
        return (features * styles)[:, :, :, None]

    latents = GeneratorLatents(
        decode,
        torch.full((1, 1, 1), 2.0),
        torch.full((1, 1, 1), 3.0),
        lr=0.1,
        lr_styles=0.5,
        momentum=0.5,
        bound=2.5,
    )
    assert latents.images.item() == 6
    latents.descend(latents.images.sum())  # gradients 3 and 2
    assert latents.features.item() == pytest.approx(2 - 0.3)
    assert latents.styles.item() == pytest.approx(3 - 1)
    assert latents.images.item() == pytest.approx(1.7 * 2)
    latents.descend(-10 * latents.images.sum())  # by the feature -20 + 3 / 2
    assert latents.features.item() == 2.5  # 1.7 + 1.85 is beyond its bound
    assert latents.loss.item() == pytest.approx(-34)


def test_features_begin_within_their_bound():
    latents = GeneratorLatents(identity, 5 * TARGET, lr=1.0, lr_styles=0.0, bound=10.0)
    assert latents.images.abs().max() == 10


def test_a_state_goes_on_with_the_same_bits():
    def make():
        return GeneratorLatents(
            Styled(), draw(3, 4, 6, 6), draw(3, 2, 3), lr=0.5, lr_styles=0.5, momentum=0.5, chunk=2
        )

    whole, first = make(), make()
    for latents in (whole, first):
        for _ in range(3):
            latents.descend(cost(latents.images))
    later = make()
    later.restore(unflatten(*flatten(first.state())))
    for latents in (whole, later):
        for _ in range(3):
            latents.descend(cost(latents.images))
    assert torch.equal(whole.result(), later.result())
    assert torch.equal(whole.loss, later.loss)


def test_images_of_earlier_stages_stand_first_and_stay():
    before = draw(2, 3, 2, 2, seed=3)
    latents = GeneratorLatents(identity, TARGET, lr=0.1, lr_styles=0.0, before=before)
    pixels = Pixels(torch.cat([before, TARGET]), 0.1, fixed=2)
    for _ in range(3):
        for images in (latents, pixels):
            images.descend(images.images.square().sum() * images.images.mean())
    assert torch.equal(latents.images[:2], before)
    assert torch.equal(latents.images, pixels.images)
    assert torch.equal(latents.result(), pixels.result())


def test_given_latents_stay():
    features = draw(2, 4, 6, 6)
    kept = features.clone()
    latents = GeneratorLatents(Styled(), features, lr=1.0, lr_styles=1.0)
    latents.descend(cost(latents.images))
    assert torch.equal(features, kept)
