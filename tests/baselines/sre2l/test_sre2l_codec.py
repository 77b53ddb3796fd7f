import io

import numpy as np
import pytest
import torch
from PIL import Image

from baselines.sre2l.codec import through_jpeg, truncate


def photo(size=48, seed=0):
    """Smooth colours with a little noise, as in a photograph."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    noise = 0.03 * torch.randn(smooth.shape, generator=generator)
    return truncate(smooth + noise)


def test_truncation_is_half_a_level_darker_than_rounding():
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    gap = (values * 255).round() - truncate(values).float()
    assert set(gap.tolist()) == {0.0, 1.0}
    assert float(gap.mean()) == pytest.approx(0.5, abs=0.01)


def test_truncation_clips_and_does_not_wrap_around():
    assert truncate(torch.tensor([-0.1, -1e-8, 1.0, 1.3])).tolist() == [0, 0, 255, 255]


def test_pixels_are_those_of_pillows_defaults():
    images = torch.cat([photo(seed=0), photo(seed=1)])
    for image, found in zip(images, through_jpeg(images), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG")
        expected = np.array(Image.open(file))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_something_is_lost_and_not_much():
    images = photo()
    gap = (images.float() - through_jpeg(images).float()).abs()
    assert 1 < float(gap.mean()) < 12  # the noise alone is 6 levels


def test_colour_has_half_the_resolution_of_brightness():
    # One-pixel stripes: in brightness they survive, in colour alone they are averaged away.
    stripes = torch.arange(32) % 2 == 0
    gray = torch.where(stripes, 200, 60).to(torch.uint8).expand(1, 3, 32, 32)
    red_or_green = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    red_or_green[:, 0] = torch.where(stripes, 200, 0).to(torch.uint8)
    red_or_green[:, 1] = torch.where(stripes, 0, 102).to(torch.uint8)  # equally bright
    kept = through_jpeg(gray).float().std(dim=-1).mean() / gray.float().std(dim=-1).mean()
    lost = through_jpeg(red_or_green).float().std(dim=-1)[:, :2].mean()
    assert kept > 0.9
    assert lost < 0.25 * red_or_green.float().std(dim=-1)[:, :2].mean()


def test_shape_and_dtype():
    found = through_jpeg(photo(size=13).repeat(3, 1, 1, 1))
    assert found.shape == (3, 3, 13, 13)
    assert found.dtype == torch.uint8
