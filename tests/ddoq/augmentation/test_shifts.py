import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from ddoq.augmentation.shifts import draw_shifts, shift_and_flip


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (11, 3, 6, 8), generator=generator, dtype=torch.uint8)


def test_shift_and_flip_equals_torchvision_image_by_image(images):
    pad = 2
    shifts = draw_shifts(11, pad, torch.Generator().manual_seed(0))
    flips = torch.arange(11) % 3 == 0
    result = shift_and_flip(images, shifts, flips, pad)
    for i, image in enumerate(images):
        top, left = (shifts[i] + pad).tolist()
        expected = tv.crop(tv.pad(image, [pad] * 4), top, left, 6, 8)
        expected = tv.horizontal_flip(expected) if flips[i] else expected
        assert torch.equal(result[i], expected)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_no_padding_and_no_flip_change_nothing(images):
    still, never = torch.zeros(11, 2, dtype=torch.int64), torch.zeros(11, dtype=torch.bool)
    assert torch.equal(shift_and_flip(images, still, never, 0), images)


def test_shifts_are_uniform():
    shifts = draw_shifts(20_000, 4, torch.Generator().manual_seed(0))
    share = torch.bincount(shifts.flatten() + 4) / 40_000
    torch.testing.assert_close(share, torch.full((9,), 1 / 9), atol=0.01, rtol=0)
