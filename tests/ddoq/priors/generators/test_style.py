import itertools

import pytest
import torch
import torch.nn.functional as F

from ddoq.errors import UserError
from ddoq.priors.generators.style import Discriminator, ModulatedConv, StyleGenerator, StyleShape
from ddoq.seeding import generator_for

SHAPE = StyleShape(16, 3, noise_width=8, style_width=8, channels=4, max_channels=8)


@pytest.fixture
def generator():
    torch.manual_seed(0)
    made = StyleGenerator(SHAPE).requires_grad_(False)
    for name, weight in made.named_parameters():
        if name.endswith("strength"):
            weight.fill_(0.3)  # so that noise is seen
    return made


def draws(count, first=0):
    return [generator_for(0, "draw", first + number) for number in range(count)]


def test_a_modulated_convolution_is_one_with_weights_of_its_own_for_every_image():
    torch.manual_seed(0)
    layer = ModulatedConv(4, 5, 8)
    features, styles = torch.randn(3, 4, 6, 6), torch.randn(3, 8)
    layer.bias.data.normal_()
    expected = []
    for one, scale in zip(features, layer.affine(styles), strict=True):
        weight = layer.weight * scale[None, :, None, None]
        weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        expected.append(F.conv2d(one[None], weight, layer.bias, padding=1))
    torch.testing.assert_close(layer(features, styles), torch.cat(expected))


def test_it_can_be_split_before_every_block(generator):
    assert [split.name for split in generator.splits] == ["b4", "b8", "b16", "rgb"]
    latents = generator.begin(torch.tensor([0, 1, 1, 2]), torch.empty(0), draws(4))
    assert latents.styles.shape == (4, 4, 8)
    whole = generator.decode(latents.features, latents.styles)
    assert whole.shape == (4, 3, 16, 16)
    for number, split in enumerate(generator.splits):
        there = generator.advance(latents, 0, number)
        assert there.features.shape == (4, *split.shape)
        assert torch.equal(generator.decode(there.features, there.styles, number), whole)


def test_an_image_depends_on_its_own_draw_and_class(generator):
    one, other = (
        generator.begin(torch.tensor(labels), torch.empty(0), draws(2)).styles
        for labels in ([0, 1], [0, 2])
    )
    alone = generator.begin(torch.tensor([1]), torch.empty(0), draws(1, 1)).styles
    torch.testing.assert_close(one[1:], alone)
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1])


def test_noise_is_constant_unless_it_is_given(generator):
    labels = torch.tensor([0, 1])
    latents = generator.begin(labels, torch.empty(0), draws(2))
    one, two = (generator.decode(latents.features, latents.styles) for _ in range(2))
    assert torch.equal(one, two)
    numbers = generator.draw(draws(2))
    constant = [block.constant[None] for block in generator.blocks]
    torch.testing.assert_close(generator(labels, numbers, constant), one)
    other = [torch.zeros_like(noise) for noise in constant]
    assert not torch.allclose(generator(labels, numbers, other), one)
    assert [noise.shape[1:] for noise in constant] == generator.noise_shapes()


@pytest.mark.parametrize("side", [8, 28, 32, 96])
def test_sides_double_up_to_the_images(side):
    sides = StyleShape(side, 2).sides()
    assert sides[-1] == side
    assert 4 <= sides[0] < 8
    assert all(2 * one == other for one, other in itertools.pairwise(sides))


@pytest.mark.parametrize("side", [9, 27, 1])
def test_other_sides_are_refused(side):
    with pytest.raises(UserError, match="4, 5, 6 or 7 times a power of 2"):
        StyleShape(side, 2).sides()


def test_a_discriminator_looks_at_the_class():
    torch.manual_seed(0)
    judge = Discriminator(SHAPE)
    images = torch.rand(2, 3, 16, 16)
    one, other = (judge(images, torch.tensor(labels)) for labels in ([0, 1], [0, 2]))
    assert one.shape == (2,)
    assert torch.equal(one[0], other[0])
    assert one[1] != other[1]
