import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import kstest
from torchvision.transforms import v2

from ddoq.augmentation.siamese import (
    FULL_STRATEGY,
    augment_pixels,
    augment_siamese,
    draw_siamese,
    draw_siamese_epoch,
    parse_strategy,
)
from ddoq.errors import UserError

KINDS = parse_strategy(FULL_STRATEGY)
SIDE = 16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(n: int, *kinds: str, seed: int = 0, side: int = SIDE):
    return draw_siamese(n, (side, side), kinds, generator(seed))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(12, 3, SIDE, SIDE, generator=generator(), dtype=torch.float64)


def test_strategies_are_read():
    assert KINDS == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert parse_strategy("none") == ()
    assert parse_strategy(FULL_STRATEGY, flip=False) == tuple(k for k in KINDS if k != "flip")


@pytest.mark.parametrize("strategy", ["color_crp", "", "flip_flip", "Color", "color__crop"])
def test_wrong_strategies_are_refused(strategy):
    with pytest.raises(UserError, match="augmentation strategy"):
        parse_strategy(strategy)


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no kind 'cutuot'. Did you mean 'cutout'\?"):
        parse_strategy("color_cutuot")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_images(kind):
    small = torch.randn(2, 3, 6, 6, generator=generator(), dtype=torch.float64, requires_grad=True)
    drawn = draw(2, kind, side=6, seed=2)
    assert torch.autograd.gradcheck(lambda x: augment_siamese(x, drawn), (small,))


def test_gradients_reach_the_images_through_a_mixture():
    small = torch.randn(8, 1, 4, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    drawn = draw(8, *KINDS, side=4)
    assert len(drawn.kinds) > 2
    assert torch.autograd.gradcheck(lambda x: augment_siamese(x, drawn), (small,))


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_row_changes_all_images_alike(images, kind):
    shared = draw(1, kind, seed=1)
    together = augment_siamese(images, shared)
    one_by_one = torch.cat([augment_siamese(image[None], shared) for image in images])
    torch.testing.assert_close(together, one_by_one, atol=1e-12, rtol=0)
    repeated = augment_siamese(images, shared.rows(torch.zeros(12, dtype=torch.int64)))
    torch.testing.assert_close(together, repeated, atol=1e-12, rtol=0)


def test_a_pair_of_batches_sees_the_same_change(images):
    # Siamese: batches of different sizes under one row; where images agree, so do the results.
    for seed in range(20):
        shared = draw(1, *KINDS, seed=seed)
        assert len(shared.kinds) == 1
        real, synthetic = augment_siamese(images, shared), augment_siamese(images[:1], shared)
        torch.testing.assert_close(real[:1], synthetic, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_an_image_does_not_depend_on_its_batch(images, kind):
    drawn = draw(12, *([kind] if kind else KINDS), seed=3)
    whole = augment_siamese(images, drawn)
    for positions in torch.randperm(12, generator=generator()).split(5):
        part = augment_siamese(images[positions], drawn.rows(positions))
        assert torch.equal(part, whole[positions])


def test_every_image_is_changed_by_the_kind_that_its_row_picks(images):
    drawn = draw(12, *KINDS)
    result = augment_siamese(images, drawn)
    for i in range(12):
        kind = drawn.kinds[int(drawn.picks[i])]
        row = drawn.rows(torch.tensor([i]))
        alone = replace(row, kinds=(kind,), picks=torch.zeros(1, dtype=torch.int64))
        torch.testing.assert_close(
            result[i : i + 1], augment_siamese(images[i : i + 1], alone), atol=1e-12, rtol=0
        )


def test_seed_and_epoch_decide():
    def colors(seed: int, epoch: int) -> torch.Tensor:
        return draw_siamese_epoch(9, (8, 8), KINDS, seed=seed, epoch=epoch).colors

    assert torch.equal(colors(0, 0), colors(0, 0))
    assert not torch.equal(colors(0, 0), colors(0, 1))
    assert not torch.equal(colors(0, 0), colors(1, 0))


def test_strategies_differ_in_their_picks_alone():
    whole, part = draw(50, *KINDS), draw(50, "scale", "rotate")
    for name in ("colors", "shifts", "holes", "flips", "scales", "angles"):
        assert torch.equal(getattr(whole, name), getattr(part, name))


def test_kinds_are_picked_equally_often():
    drawn = draw(60000, *KINDS)
    assert drawn.kinds == KINDS
    assert torch.bincount(drawn.picks).tolist() == pytest.approx([10000] * 6, rel=0.05)


def test_digits_are_never_mirrored():
    kinds = parse_strategy(FULL_STRATEGY, flip=False)
    assert "flip" not in draw(1000, *kinds).kinds


def test_strengths_are_uniform_in_their_ranges():
    drawn = draw(20000, "color", side=32)
    ranges = {
        "brightness": (drawn.colors[:, 0], -0.5, 0.5),
        "saturation": (drawn.colors[:, 1], 0.0, 2.0),
        "contrast": (drawn.colors[:, 2], 0.5, 1.5),
        "scale along x": (drawn.scales[:, 0], 1 / 1.2, 1.2),
        "scale along y": (drawn.scales[:, 1], 1 / 1.2, 1.2),
        "angle": (drawn.angles, -math.pi / 12, math.pi / 12),
    }
    for name, (values, low, high) in ranges.items():
        assert kstest((values.double() - low) / (high - low), "uniform").pvalue > 1e-3, name
    assert drawn.flips.float().mean().item() == pytest.approx(0.5, abs=0.02)
    # A side of 32 is padded by an eighth: 9 shifts from -4 to 4, all alike.
    for shifts in drawn.shifts.T:
        values, counts = shifts.unique(return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        assert counts.tolist() == pytest.approx([20000 / 9] * 9, rel=0.1)
    assert abs(torch.corrcoef(drawn.scales.T)[0, 1]) < 0.03


@pytest.mark.parametrize(("side", "hole"), [(32, 16), (28, 14), (10, 5), (1, 1)])
def test_holes_are_half_a_side_and_may_stick_out(side, hole):
    drawn = draw(20000, "cutout", side=side)
    top, left, bottom, right = drawn.holes.T
    assert int(torch.minimum(top, left).min()) == 0
    assert int(torch.maximum(bottom, right).max()) == side
    for low, high in ((top, bottom), (left, right)):
        lengths = high - low
        assert int(lengths.max()) == hole
        assert int(lengths.min()) >= hole // 2
        # Centres lie anywhere in the image: a whole hole is as likely as its places are many.
        places = side + 1 - hole % 2
        whole = (side - hole + 1) / places
        assert (lengths == hole).double().mean().item() == pytest.approx(whole, abs=0.02)


def test_color_by_hand():
    image = torch.tensor([[[[1.0]], [[2.0]], [[6.0]]]])
    drawn = replace(draw(1, "color"), colors=torch.tensor([[0.5, 2.0, 0.5]]))
    # + 0.5: 1.5, 2.5, 6.5; deviations from their mean 3.5 doubled: -0.5, 1.5, 9.5; from the mean 3.5 halved.
    assert augment_siamese(image, drawn).flatten().tolist() == [1.5, 2.5, 6.5]


def test_saturation_is_of_the_pixel_and_contrast_of_the_image():
    image = torch.randn(2, 3, 4, 4, generator=generator())
    gray = replace(draw(1, "color"), colors=torch.tensor([[0.0, 0.0, 1.0]]))
    mean = image.mean(dim=1, keepdim=True).expand_as(image)
    torch.testing.assert_close(augment_siamese(image, gray), mean)
    flat = replace(gray, colors=torch.tensor([[0.0, 1.0, 0.0]]))
    mean = image.mean(dim=(1, 2, 3), keepdim=True).expand_as(image)
    torch.testing.assert_close(augment_siamese(image, flat), mean)


def test_crop_looks_down_and_right_and_fills_with_zeros():
    image = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    shift = replace(draw(1, "crop"), shifts=torch.tensor([[1, -1]]))
    expected = [[0, 4, 5], [0, 7, 8], [0, 0, 0]]
    assert augment_siamese(image, shift)[0, 0].tolist() == expected


def test_cutout_blanks_exactly_the_hole():
    hole = replace(draw(1, "cutout"), holes=torch.tensor([[1, 0, 3, 2]]))
    image = augment_siamese(torch.ones(1, 1, 4, 3), hole)[0, 0]
    assert image.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 1], [1, 1, 1]]


def test_flip_mirrors_where_the_row_says_so(images):
    drawn = draw(12, "flip")
    expected = torch.where(drawn.flips.reshape(-1, 1, 1, 1), v2.functional.hflip(images), images)
    assert 0 < int(drawn.flips.sum()) < 12
    assert torch.equal(augment_siamese(images, drawn), expected)


def test_rotation_equals_torchvisions(images):
    drawn = draw(12, "rotate")
    ours = augment_siamese(images, drawn)
    for image, angle, result in zip(images, drawn.angles.tolist(), ours, strict=True):
        reference = v2.functional.rotate(
            image,
            math.degrees(angle),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        # torchvision's fill is mixed in by a mask of its own: equal away from the border.
        torch.testing.assert_close(
            result[:, 4:-4, 4:-4], reference[:, 4:-4, 4:-4], atol=1e-5, rtol=0
        )


def test_scale_looks_at_points_further_from_the_centre():
    # A ramp along x, looked at in steps of 1.2: the same ramp 1.2 times as steep, about the centre.
    ramp = (torch.arange(9.0) - 4).expand(1, 1, 9, 9)
    drawn = replace(draw(1, "scale"), scales=torch.tensor([[1.2, 1.0]]))
    inner = augment_siamese(ramp, drawn)[0, 0, :, 1:-1]
    torch.testing.assert_close(inner, 1.2 * ramp[0, 0, :, 1:-1])
    other = replace(drawn, scales=torch.tensor([[1.0, 1.2]]))
    torch.testing.assert_close(augment_siamese(ramp, other)[0, 0, 1:-1], ramp[0, 0, 1:-1])


@pytest.mark.parametrize(
    ("kind", "neutral"),
    [
        ("color", {"colors": torch.tensor([[0.0, 1.0, 1.0]])}),
        ("crop", {"shifts": torch.zeros(1, 2, dtype=torch.int64)}),
        ("cutout", {"holes": torch.zeros(1, 4, dtype=torch.int64)}),
        ("flip", {"flips": torch.tensor([False])}),
        ("scale", {"scales": torch.ones(1, 2)}),
        ("rotate", {"angles": torch.zeros(1)}),
    ],
)
def test_neutral_strengths_change_nothing(images, kind, neutral):
    same = augment_siamese(images, replace(draw(1, kind), **neutral))
    torch.testing.assert_close(same, images, atol=1e-12, rtol=0)


def test_pixels_are_augmented_as_if_normalised(images):
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    pixels = images.sigmoid()
    drawn = draw(12, *KINDS)
    normalize = v2.Normalize(mean, std)
    expected = augment_siamese(normalize(pixels), drawn)
    torch.testing.assert_close(normalize(augment_pixels(pixels, drawn, mean, std)), expected)


def test_dtype_and_shape_stay(images):
    for dtype in (torch.float32, torch.float64):
        result = augment_siamese(images.to(dtype)[:, :1, :, :8], draw(12, *KINDS, side=8))
        assert (result.dtype, result.shape) == (dtype, (12, 1, SIDE, 8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(images):
    drawn = draw(12, *KINDS)
    there = augment_siamese(images.cuda(), drawn.to("cuda")).cpu()
    torch.testing.assert_close(there, augment_siamese(images, drawn), atol=1e-6, rtol=0)
