import pytest
import torch

from ddoq.data.splits import TensorSplit
from ddoq.teachers.batches import (
    ResidentBatches,
    batches_of,
    draw_teacher_epoch,
    fits,
    load_split,
    streamed_batches,
)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (11, 3, 6, 8), generator=generator, dtype=torch.uint8)
    return TensorSplit(images, torch.arange(11) % 3)


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


def test_crops_are_drawn_beside_what_was_drawn_before():
    given = {"crop_pad": 0, "hflip": True, "seed": 2, "epoch": 1}
    plain = draw_teacher_epoch(400, **given)
    cropped = draw_teacher_epoch(400, **given, crop_scale=(0.08, 1.0), size=(64, 64))
    assert plain.crops is None
    assert torch.equal(plain.order, cropped.order)
    assert torch.equal(plain.flips, cropped.flips)
    top, left, height, width = cropped.crops.unbind(1)
    assert bool(((top + height <= 64) & (left + width <= 64)).all())
    area = (height * width).float() / 64**2
    assert 0.06 < area.min() < 0.12
    assert area.max() > 0.95
    other = draw_teacher_epoch(400, **{**given, "epoch": 2}, crop_scale=(0.08, 1.0), size=(64, 64))
    assert not torch.equal(other.crops, cropped.crops)


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
