import pytest
import torch
from torchvision.transforms import v2

from ddoq.augmentation.colors import draw_jitter, draw_lighting, jitter


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_jitter_equals_torchvisions():
    images = torch.rand(24, 3, 6, 5, generator=generator())
    factors, order = draw_jitter(24, 0.8, generator(1))
    steps = (
        v2.functional.adjust_brightness,
        v2.functional.adjust_contrast,
        v2.functional.adjust_saturation,
    )
    assert len({tuple(row) for row in order.tolist()}) == 6  # every order occurs
    for image, factor, row, result in zip(
        images, factors.tolist(), order.tolist(), jitter(images, factors, order), strict=True
    ):
        reference = image
        for kind in row:
            reference = steps[kind](reference, factor[kind])
        torch.testing.assert_close(result, reference, atol=1e-6, rtol=0)


def test_without_a_clamp_each_change_is_the_plain_blend():
    images = torch.rand(12, 3, 4, 4, generator=generator())
    factors, order = draw_jitter(12, 0.8, generator(1))
    gray = torch.tensor([0.2989, 0.587, 0.114])
    found = jitter(images, factors, order, clamp=False)
    for image, factor, row, result in zip(images, factors, order.tolist(), found, strict=True):
        for kind in row:
            brightness = torch.einsum("c,chw->hw", gray, image).expand(3, -1, -1)
            bases = (torch.zeros(3, 4, 4), brightness.mean().expand(3, 4, 4), brightness)
            image = torch.lerp(bases[kind], image, factor[kind])
        torch.testing.assert_close(result, image, atol=1e-6, rtol=0)
    assert found.max() > 1.1, "nothing is cut off"


def test_factors_are_uniform_and_orders_equally_likely():
    factors, order = draw_jitter(60000, 0.4, generator())
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    assert factors.mean().item() == pytest.approx(1.0, abs=0.005)
    assert factors.std().item() == pytest.approx(0.8 / 12**0.5, abs=0.005)
    _, counts = order.unique(dim=0, return_counts=True)
    assert counts.tolist() == pytest.approx([10000] * 6, rel=0.05)


def test_lighting_has_the_covariance_of_imagenets_colours():
    # Shares of the noise along the three components are the variances, and components are orthonormal, so that
    # the total variance is sigma^2 times the sum of squared eigenvalues.
    noise = draw_lighting(200000, 0.1, generator())
    assert noise.mean(dim=0).abs().max() < 1e-3
    covariance = noise.T.double().cov()
    expected = sorted((0.1 * value) ** 2 for value in (0.2175, 0.0188, 0.0045))
    assert torch.linalg.eigvalsh(covariance).tolist() == pytest.approx(expected, rel=0.02)
    # Red, green and blue almost move together: the first component is nearly grey.
    assert torch.corrcoef(noise.T).min() > 0.97
