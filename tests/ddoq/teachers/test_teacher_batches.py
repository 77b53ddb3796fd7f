import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from ddoq.data.base import TensorSplit
from ddoq.teachers.batches import (
    ResidentBatches,
    batches_of,
    draw_teacher_epoch,
    fits,
    load_split,
    shift_and_flip,
    streamed_batches,
)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (11, 3, 6, 8), generator=generator, dtype=torch.uint8)
    return TensorSplit(images, torch.arange(11) % 3)


def test_shift_and_flip_equals_torchvision_image_by_image(split):
    pad = 2
    epoch = draw_teacher_epoch(11, crop_pad=pad, hflip=True, seed=0, epoch=0)
    result = shift_and_flip(split.images, epoch.shifts, epoch.flips, pad)
    for i, image in enumerate(split.images):
        top, left = (epoch.shifts[i] + pad).tolist()
        expected = tv.crop(tv.pad(image, [pad] * 4), top, left, 6, 8)
        expected = tv.horizontal_flip(expected) if epoch.flips[i] else expected
        assert torch.equal(result[i], expected)
    assert epoch.flips.any()
    assert not epoch.flips.all()
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_no_padding_and_no_flip_change_nothing(split):
    epoch = draw_teacher_epoch(11, crop_pad=0, hflip=False, seed=0, epoch=0)
    assert torch.equal(shift_and_flip(split.images, epoch.shifts, epoch.flips, 0), split.images)


def test_draws_are_uniform_and_differ_between_epochs_and_seeds():
    epoch = draw_teacher_epoch(20_000, crop_pad=2, hflip=True, seed=0, epoch=0)
    share = torch.bincount(epoch.shifts.flatten() + 2) / 40_000
    torch.testing.assert_close(share, torch.full((5,), 0.2), atol=0.01, rtol=0)
    assert epoch.flips.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(epoch.order.sort().values, torch.arange(20_000))
    for other in (
        draw_teacher_epoch(20_000, crop_pad=2, hflip=True, seed=0, epoch=1),
        draw_teacher_epoch(20_000, crop_pad=2, hflip=True, seed=1, epoch=0),
    ):
        assert not torch.equal(epoch.order, other.order)
        assert not torch.equal(epoch.shifts, other.shifts)


@pytest.mark.parametrize(("n", "size", "expected"), [(11, 4, [4, 4]), (8, 4, [4, 4]), (3, 4, [3])])
def test_only_whole_batches(n, size, expected):
    batches = batches_of(torch.randperm(n), size)
    assert [len(batch) for batch in batches] == expected
    assert len(torch.cat(batches).unique()) == sum(expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_streamed_batches_equal_resident_ones(split, num_workers):
    positions = batches_of(torch.randperm(11), 4)
    resident = list(ResidentBatches(split.images, split.labels, positions))
    state = torch.get_rng_state()
    streamed = list(streamed_batches(split, positions, num_workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(resident) == len(streamed) == 2
    for ours, theirs in zip(resident, streamed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_load_split_reads_everything_in_order(split):
    assert torch.equal(load_split(split, chunk=4), split.images)


def test_fits_on_the_cpu_up_to_a_limit():
    assert fits(10**6, torch.device("cpu"))
    assert not fits(10**12, torch.device("cpu"))
