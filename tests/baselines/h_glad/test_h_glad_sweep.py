import pytest
import torch
from identity_generator import Doubling

from baselines.h_glad.sweep import SweptLatents
from ddoq.priors.generators import Latents
from ddoq.storage.checkpoints import flatten, unflatten

START = torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
NAMES = ("half", "shift", "double")


def swept(distance, steps=3, layers=(0, 1, 2), lr=0.05, **changes):
    generator = Doubling(2)
    settings = {"lr": lr, "lr_styles": 0.01, "momentum": 0.5, "bound": 10.0, "chunk": 1}
    return SweptLatents(
        lambda number: lambda f, w: generator.decode(f, w, number),
        generator.advance,
        Latents(START, torch.zeros(2, 3, 1)),
        layers,
        [NAMES[number] for number in layers],
        steps,
        distance,
        **settings | changes,
    )


class Counting:
    """A distance that grows, or falls, with every image it is asked about."""

    def __init__(self, sign):
        self.sign, self.calls = sign, 0

    def __call__(self, images):
        self.calls += 1
        return torch.tensor(float(self.sign * self.calls))


def run(latents, steps):
    for _ in range(steps):
        latents.descend((latents.images - 2).square().sum())


def test_choosing_step_0_everywhere_is_where_it_began():
    """The release keeps references, so that whichever step it picks it goes on from the last."""
    latents = swept(Counting(1))
    run(latents, 9)
    assert latents.chosen == [0, 0, 0]
    assert torch.equal(latents.result(), START)
    assert torch.equal(latents.styles, torch.zeros(2, 3, 1))
    assert latents.info() == {"chosen": {"half": 0, "shift": 0, "double": 0}}


def test_choosing_the_last_step_everywhere_goes_on_from_it():
    latents = swept(Counting(-1), layers=(1, 2))
    run(latents, 3)
    assert latents.chosen == [3]
    one = swept(Counting(-1), layers=(1,))
    run(one, 3)
    assert torch.equal(
        one.images, latents.images
    )  # pushed through a layer they are the same images
    run(latents, 3)
    assert latents.chosen == [3, 3]
    assert not torch.equal(one.images, latents.images)


@pytest.mark.parametrize("wanted", [0, 1, 2, 3])
def test_the_values_of_the_chosen_step_are_those_of_that_step(wanted):
    seen = []

    def distance(images):
        seen.append(images.clone())
        return torch.tensor(float(abs(len(seen) - 1 - wanted)))

    latents = swept(distance, layers=(2,))
    run(latents, 3)
    assert latents.chosen == [wanted]
    assert len(seen) == 4
    assert torch.equal(latents.result(), seen[wanted])


def test_every_layer_has_a_fresh_optimiser():
    latents = swept(Counting(-1), steps=1, layers=(1, 2))
    run(latents, 1)
    before = latents.features.detach().clone()
    latents.descend((latents.images * torch.ones(())).sum())  # by the feature 2 everywhere
    torch.testing.assert_close(latents.features.detach(), before - 0.05 * 2)  # no momentum is left


def test_features_are_kept_within_their_bound_when_they_are_pushed():
    latents = swept(Counting(1), steps=1, layers=(1, 2), bound=0.25)
    run(latents, 1)
    assert latents.features.abs().max() == 0.25
    assert latents.images.abs().max() == 0.5


@pytest.mark.parametrize("done", [1, 3, 4, 9])
def test_a_state_goes_on_with_the_same_bits(done):
    def distance(images):
        return (images - 0.3).square().sum()

    whole, first = swept(distance, lr=0.05), swept(distance, lr=0.05)
    run(whole, 9)
    run(first, done)
    later = swept(distance, lr=0.05)
    later.restore(unflatten(*flatten(first.state())))
    run(later, 9 - done)
    assert later.chosen == whole.chosen
    assert torch.equal(later.result(), whole.result())
    assert torch.equal(later.styles, whole.styles)


def test_earlier_images_are_not_judged():
    seen = []

    def distance(images):
        seen.append(len(images))
        return torch.tensor(0.0)

    latents = swept(distance, before=torch.zeros(3, 3, 2, 2))
    run(latents, 2)
    assert set(seen) == {2}
