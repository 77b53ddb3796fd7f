import pytest
import torch

from baselines.sre2l.augmentation import Augmentation, augment, draw_augmentations, least_scale


def draw(count=500, size=32, *, crop_scale=(0.08, 1.0), flip=True, jitter=4, seed=0):
    return draw_augmentations(
        count,
        size,
        crop_scale=crop_scale,
        flip=flip,
        jitter=jitter,
        generator=torch.Generator().manual_seed(seed),
    )


def test_same_generator_same_augmentations():
    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1) != draw(seed=2)


def test_global_random_state_neither_read_nor_changed():
    torch.manual_seed(0)
    expected = draw(20)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert draw(20) == expected
    assert torch.equal(torch.get_rng_state(), before)


def test_shifts_are_uniform_and_never_negative():
    drawn = draw(2000, jitter=4)
    for shifts in ([a.down for a in drawn], [a.right for a in drawn]):
        counts = torch.bincount(torch.tensor(shifts), minlength=5)
        assert min(shifts) == 0
        assert max(shifts) == 4
        assert (counts - 400).abs().max() < 100  # five standard deviations are 89
    assert any(a.down != a.right for a in drawn)


def test_no_crop_no_flip_no_shift():
    assert set(draw(10, crop_scale=None, flip=False, jitter=0)) == {
        Augmentation(0, 0, 32, 32, False, 0, 0)
    }


def test_crops_stay_inside_and_keep_area_and_ratio():
    drawn = draw(2000, size=64, crop_scale=(0.25, 0.5))
    areas = torch.tensor([a.height * a.width / 64**2 for a in drawn])
    ratios = torch.tensor([a.width / a.height for a in drawn])
    assert all(0 <= a.top <= 64 - a.height and 0 <= a.left <= 64 - a.width for a in drawn)
    # Sides are rounded to whole pixels.
    assert areas.min() > 0.23
    assert areas.max() < 0.52
    assert abs(float(areas.mean()) - 0.375) < 0.01  # areas are uniform
    assert ratios.min() > 0.7
    assert ratios.max() < 1.45
    assert abs(float(ratios.log().mean())) < 0.02  # as often wide as tall


def test_about_half_are_flipped():
    share = sum(a.flip for a in draw(2000)) / 2000
    assert 0.44 < share < 0.56


def test_flip_does_not_change_other_draws():
    with_flip, without = draw(50, flip=True), draw(50, flip=False)
    assert [a._replace(flip=False) for a in with_flip] == without


@pytest.mark.parametrize("step", draw(10, size=16))
def test_all_images_of_a_batch_share_the_augmentation(step):
    one = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = augment(one.expand(5, -1, -1, -1), step)
    assert out.shape == (5, 3, 16, 16)
    torch.testing.assert_close(out, augment(one, step).expand(5, -1, -1, -1))


def test_crop_takes_the_named_region():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:6, 4:8] = 1
    out = augment(image, Augmentation(2, 4, 4, 4, False, 0, 0))
    torch.testing.assert_close(out, torch.ones(1, 1, 8, 8))


def test_crop_matches_bilinear_interpolation():
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = augment(image, Augmentation(1, 3, 9, 12, False, 0, 0))
    expected = torch.nn.functional.interpolate(
        image[..., 1:10, 3:15], size=(16, 16), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(out, expected)


def test_flip_mirrors_left_to_right():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)[..., :2]
    out = augment(image, Augmentation(0, 0, 2, 2, True, 0, 0))
    assert out.flatten().tolist() == [1, 0, 4, 3]


def test_roll_moves_down_and_right_and_wraps():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 3, 0] = 1
    out = augment(image, Augmentation(0, 0, 4, 4, False, 1, 2))
    assert torch.nonzero(out).tolist() == [[0, 0, 0, 2]]


def test_gradient_reaches_the_cropped_pixels_only():
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    augment(image, Augmentation(0, 0, 4, 4, True, 1, 1)).sum().backward()
    assert (image.grad[..., :4, :4] > 0).all()
    assert image.grad[..., 4:, :].abs().sum() == 0
    # Summation undoes flip and roll: each of 16 pixels stands for 4.
    torch.testing.assert_close(image.grad.sum(), torch.tensor(64.0))


def test_curriculum_starts_with_whole_images_and_ends_with_small_crops():
    settings = {"crop_scale": (0.08, 1.0), "flip": False, "jitter": 0}
    drawn = draw_augmentations(
        1000,
        64,
        generator=torch.Generator().manual_seed(0),
        crop_curriculum=1.0,
        **settings,
    )
    areas = torch.tensor([a.height * a.width / 64**2 for a in drawn])
    assert (areas[:50] > 0.95).all()
    floors = torch.tensor([least_scale(t, 1000, 0.08, 1.0, 1.0) for t in range(1000)])
    assert (areas > floors - 0.03).all()  # sides are whole pixels
    assert areas[900:].min() < 0.2


def test_curriculum_by_hand():
    # T = 8 of which half: 1 at 0, 0.75 + 0.25 cos(45 degrees) ... of the way at 1, the middle at 2, low from 4 on.
    found = [least_scale(t, 8, 0.2, 1.0, 0.5) for t in range(8)]
    assert found[0] == 1.0
    assert found[1] == pytest.approx(0.2 + 0.4 * (1 + 0.5**0.5))
    assert found[2] == pytest.approx(0.6)
    assert found[4:] == [0.2] * 4
    assert found == sorted(found, reverse=True)


def test_no_curriculum_is_constant_and_draws_what_it_always_drew():
    assert {least_scale(t, 5, 0.3, 1.0, 0.0) for t in range(5)} == {0.3}
    settings = {"crop_scale": (0.3, 1.0), "flip": True, "jitter": 2}
    with_zero = draw_augmentations(
        20, 16, generator=torch.Generator().manual_seed(0), crop_curriculum=0.0, **settings
    )
    assert with_zero == draw_augmentations(
        20, 16, generator=torch.Generator().manual_seed(0), **settings
    )
