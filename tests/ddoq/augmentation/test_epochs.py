import pytest
import torch
from scipy.stats import beta, ks_2samp, kstest
from torchvision.transforms import v2

from ddoq.augmentation.colors import jitter
from ddoq.augmentation.epochs import (
    augment,
    crop_and_flip,
    draw_crops,
    draw_epoch,
)
from ddoq.augmentation.mixing import cutmix, draw_boxes
from ddoq.augmentation.patches import shuffle_patches
from ddoq.augmentation.shifts import shift_and_flip

RATIO = (3 / 4, 4 / 3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (12, 3, 16, 16), generator=generator(), dtype=torch.uint8)


def test_whole_image_is_the_identity(images):
    pixels = images.float() / 255
    crops = draw_crops(12, (16, 16), (1.0, 1.0), (1.0, 1.0), generator())
    same = crop_and_flip(pixels, crops, torch.zeros(12, dtype=torch.bool))
    torch.testing.assert_close(same, pixels, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_crops_equal_torchvisions(size):
    pixels = torch.rand(30, 3, *size, generator=generator())
    crops = draw_crops(30, size, (0.08, 1.0), RATIO, generator(1))
    flips = torch.arange(30) % 2 == 0
    ours = crop_and_flip(pixels, crops, flips)
    for image, crop, flip, result in zip(pixels, crops.tolist(), flips, ours, strict=True):
        reference = v2.functional.resized_crop(image, *crop, size=list(size), antialias=True)
        reference = v2.functional.horizontal_flip(reference) if flip else reference
        torch.testing.assert_close(result, reference, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "scale"), [((32, 32), (0.08, 1.0)), ((64, 64), (0.5, 1.0)), ((20, 44), (0.3, 0.9))]
)
def test_crops_are_distributed_as_torchvisions(size, scale):
    crops = draw_crops(3000, size, scale, RATIO, generator())
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(size, scale=scale, ratio=RATIO)
    image = torch.empty(3, *size)
    params = [transform.make_params([image]) for _ in range(3000)]
    reference = torch.tensor([[p[k] for k in ("top", "left", "height", "width")] for p in params])
    for ours, theirs in (
        (crops[:, 2] * crops[:, 3], reference[:, 2] * reference[:, 3]),
        (crops[:, 3] / crops[:, 2], reference[:, 3] / reference[:, 2]),
        (crops[:, 0], reference[:, 0]),
        (crops[:, 1], reference[:, 1]),
    ):
        assert ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


def test_crops_stay_inside():
    top, left, height, width = draw_crops(5000, (9, 13), (0.05, 1.0), (0.2, 5.0), generator()).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (top + height <= 9).all()
    assert (left + width <= 13).all()


def test_ratios_that_never_fit_give_torchvisions_central_crop():
    crops = draw_crops(2, (10, 40), (1.0, 1.0), (1.0, 1.0), generator())
    params = v2.RandomResizedCrop(10, scale=(1.0, 1.0), ratio=(1.0, 1.0)).make_params(
        [torch.empty(3, 10, 40)]
    )
    assert crops.tolist() == [[params[k] for k in ("top", "left", "height", "width")]] * 2


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_box_shares_follow_the_beta_distribution(alpha):
    # A wide image keeps rounding small, and only boxes that do not stick out show the share that was drawn.
    boxes, lam = draw_boxes(20000, (1000, 1000), alpha, generator())
    left, top, right, bottom = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 1000).all()
    assert (bottom <= 1000).all()
    torch.testing.assert_close(lam, 1 - ((right - left) * (bottom - top)).float() / 1e6)
    # Given its side s the box fits inside with probability (1 - s)^2, so compare within a thin slice of places.
    central = ((left + right) / 2 - 500).abs().lt(60) & ((top + bottom) / 2 - 500).abs().lt(60)
    small = central & (lam > 0.25)  # side below 0.87: fits wherever the centre is within 60 pixels
    below = beta(alpha, alpha).cdf(0.25)

    def cdf(x):
        return (beta(alpha, alpha).cdf(x) - below) / (1 - below)

    assert small.sum() > 100
    assert kstest(lam[small].numpy(), cdf).pvalue > 1e-3


def test_cutmix_pastes_exactly_the_box():
    own, partners = torch.zeros(3, 3, 6, 8), torch.ones(3, 3, 6, 8)
    boxes = torch.tensor([[1, 2, 4, 5], [0, 0, 8, 6], [3, 3, 3, 3]])
    mixed = cutmix(own, partners, boxes)
    reference = own.clone()
    reference[0, :, 2:5, 1:4] = 1
    reference[1] = 1
    assert torch.equal(mixed, reference)


def test_lam_is_the_share_of_own_pixels():
    epoch = draw_epoch(50, (8, 8), seed=3, epoch=1, cutmix_alpha=1.0)
    mixed = cutmix(torch.zeros(50, 1, 8, 8), torch.ones(50, 1, 8, 8), epoch.boxes)
    torch.testing.assert_close(1 - mixed.mean((1, 2, 3)), epoch.lam)
    assert sorted(epoch.partners.tolist()) == list(range(50))


def test_an_image_does_not_depend_on_its_batch(images):
    epoch = draw_epoch(
        12, (16, 16), seed=0, epoch=4, crop_scale=(0.2, 1.0), flip=True, cutmix_alpha=1.0
    )
    whole = augment(images, torch.arange(12), epoch)
    for batches in (torch.arange(12).split(5), torch.randperm(12, generator=generator()).split(4)):
        for positions in batches:
            assert torch.equal(augment(images, positions, epoch), whole[positions])


def test_partners_are_augmented_by_their_own_parameters(images):
    options = {"crop_scale": (0.2, 1.0), "flip": True}
    alone = augment(images, torch.arange(12), draw_epoch(12, (16, 16), seed=0, epoch=0, **options))
    epoch = draw_epoch(12, (16, 16), seed=0, epoch=0, cutmix_alpha=1.0, **options)
    mixed = augment(images, torch.arange(12), epoch)
    assert torch.equal(mixed, cutmix(alone, alone[epoch.partners], epoch.boxes))


def test_seed_and_epoch_decide(images):
    def draw(seed: int, epoch: int) -> torch.Tensor:
        return draw_epoch(12, (16, 16), seed=seed, epoch=epoch, crop_scale=(0.1, 1.0)).crops

    assert torch.equal(draw(0, 0), draw(0, 0))
    assert not torch.equal(draw(0, 0), draw(0, 1))
    assert not torch.equal(draw(0, 0), draw(1, 0))


def test_half_of_the_images_are_mirrored():
    flips = draw_epoch(4000, (8, 8), seed=0, epoch=0, flip=True).flips
    assert abs(flips.float().mean().item() - 0.5) < 0.03


def test_without_options_pixels_are_only_scaled(images):
    plain = augment(images, torch.arange(12), draw_epoch(12, (16, 16), seed=0, epoch=0))
    torch.testing.assert_close(plain, images.float() / 255, atol=1e-5, rtol=0)


EVERYTHING = {
    "crop_scale": (0.2, 1.0),
    "flip": True,
    "cutmix_alpha": 1.0,
    "collage": 2,
    "color_jitter": 0.4,
    "pca_lighting": 0.1,
}


def test_further_steps_leave_the_draws_of_the_others_alone():
    few = {key: EVERYTHING[key] for key in ("crop_scale", "flip", "cutmix_alpha")}
    less, more = (draw_epoch(12, (16, 16), seed=0, epoch=2, **o) for o in (few, EVERYTHING))
    for name in ("crops", "flips", "partners", "boxes", "lam"):
        assert torch.equal(getattr(less, name), getattr(more, name))


def test_with_everything_an_image_does_not_depend_on_its_batch(images):
    epoch = draw_epoch(12, (16, 16), seed=0, epoch=4, **EVERYTHING)
    whole = augment(images, torch.arange(12), epoch)
    for positions in torch.randperm(12, generator=generator()).split(5):
        torch.testing.assert_close(augment(images, positions, epoch), whole[positions])


def test_each_step_takes_the_row_of_its_image(images):
    positions = torch.tensor([7, 2])
    for option in ("collage", "color_jitter", "pca_lighting"):
        epoch = draw_epoch(12, (16, 16), seed=1, epoch=0, **{option: EVERYTHING[option]})
        pixels = images[positions].float() / 255
        if option == "collage":
            pixels = shuffle_patches(pixels, epoch.patches[positions])
        elif option == "color_jitter":
            pixels = jitter(pixels, epoch.jitter_factors[positions], epoch.jitter_order[positions])
        else:
            pixels = pixels + epoch.lighting[positions].reshape(2, 3, 1, 1)
        torch.testing.assert_close(augment(images, positions, epoch), pixels, atol=1e-5, rtol=0)


def test_order_of_the_steps(images):
    options = {key: EVERYTHING[key] for key in EVERYTHING if key != "cutmix_alpha"}
    epoch = draw_epoch(12, (16, 16), seed=2, epoch=0, **options)
    pixels = shuffle_patches(images, epoch.patches).float() / 255
    pixels = crop_and_flip(pixels, epoch.crops, epoch.flips)
    pixels = (
        jitter(pixels, epoch.jitter_factors, epoch.jitter_order) + epoch.lighting[..., None, None]
    )
    assert torch.equal(augment(images, torch.arange(12), epoch), pixels)


SHIFTED = {"pad_crop": 3, "flip": True, "mixup_alpha": 0.8}


def test_mixup_and_black_borders_leave_the_draws_of_the_others_alone(images):
    plain = draw_epoch(12, (16, 16), seed=0, epoch=2, flip=True, cutmix_alpha=1.0)
    other = draw_epoch(12, (16, 16), seed=0, epoch=2, **SHIFTED)
    assert torch.equal(plain.partners, other.partners)
    assert torch.equal(plain.flips, other.flips)
    assert other.boxes is None
    assert other.shifts.abs().max() == other.pad == 3


def test_mixup_blends_images_that_are_moved_by_their_own_parameters(images):
    positions = torch.arange(12)
    epoch = draw_epoch(12, (16, 16), seed=0, epoch=2, **SHIFTED)
    alone = shift_and_flip(images, epoch.shifts, epoch.flips, 3).float() / 255
    lam = epoch.lam[:, None, None, None]
    expected = lam * alone + (1 - lam) * alone[epoch.partners]
    torch.testing.assert_close(augment(images, positions, epoch), expected)
    for some in torch.randperm(12, generator=generator()).split(5):
        assert torch.equal(augment(images, some, epoch), augment(images, positions, epoch)[some])


def test_one_kind_of_crop_and_one_of_mixing():
    with pytest.raises(ValueError, match="by CutMix or by MixUp"):
        draw_epoch(2, (4, 4), seed=0, epoch=0, cutmix_alpha=1.0, mixup_alpha=1.0)
    with pytest.raises(ValueError, match="not both"):
        draw_epoch(2, (4, 4), seed=0, epoch=0, crop_scale=(0.5, 1.0), pad_crop=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [EVERYTHING, SHIFTED])
def test_cuda_equals_cpu(images, options):
    epoch = draw_epoch(12, (16, 16), seed=0, epoch=0, **options)
    positions = torch.arange(12)
    there = augment(images.cuda(), positions.cuda(), epoch.to("cuda")).cpu()
    torch.testing.assert_close(there, augment(images, positions, epoch), atol=1e-5, rtol=0)
