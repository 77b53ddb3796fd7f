"""What priors take for the noise of latents, against diffusers' networks that are asked by hand."""

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import build_dit, build_stable_diffusion

from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior, StableDiffusionPrior

IDS = torch.tensor([0, 3, 4, 1])


@pytest.fixture
def noised():
    """Latents, noise, and what diffusers makes of them at half of the schedule."""
    draws = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 4, 2, 4, 4, generator=draws).unbind(0)
    times = torch.full((4,), 500)
    return latents, noise, DDIMScheduler().add_noise(latents, noise, times), times


@pytest.mark.parametrize("learned_sigma", [False, True])
@torch.no_grad()
def test_a_dit_is_asked_with_its_class_or_with_the_null_class(noised, learned_sigma):
    latents, noise, noisy, times = noised
    pipeline = build_dit(learned_sigma=learned_sigma)
    prior = DiffusionPrior(pipeline)
    for given, labels in ((IDS, IDS), (None, torch.full((4,), 5))):
        expected = pipeline.transformer(noisy, timestep=times, class_labels=labels).sample[:, :2]
        actual = prior.predict_noise(latents, noise, 0.5, given)
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_a_velocity_becomes_noise(noised):
    latents, noise, noisy, _ = noised
    pipeline = build_dit()
    prior = DiffusionPrior(pipeline)
    output = prior.predict_noise(latents, noise, 0.5, IDS)
    schedule = {"clip_sample": False, "prediction_type": "v_prediction"}
    prior.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, **schedule)
    signal = prior.scheduler.alphas_cumprod[500]
    clean = signal.sqrt() * noisy - (1 - signal).sqrt() * output
    expected = (noisy - signal.sqrt() * clean) / (1 - signal).sqrt()
    torch.testing.assert_close(prior.predict_noise(latents, noise, 0.5, IDS), expected)


def test_the_sampler_decides_nothing(noised, tiny_folder):
    latents, noise, *_ = noised
    predicted = [
        DiffusionPrior.from_pretrained(tiny_folder, scheduler=name).predict_noise(
            latents, noise, 0.5, IDS
        )
        for name in ("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "PNDMScheduler")
    ]
    for other in predicted[1:]:
        torch.testing.assert_close(other, predicted[0])


@torch.no_grad()
def test_stable_diffusion_is_told_the_prompt_or_nothing(tmp_path):
    pipeline = build_stable_diffusion(tmp_path / "tokenizer")
    prior = StableDiffusionPrior(pipeline, ["a cat", "a dog"], "cartoon, anime")
    latents, noise = torch.randn(2, 3, 4, 8, 8).unbind(0)
    times = torch.full((3,), 500)
    noisy = pipeline.scheduler.add_noise(latents, noise, times)
    for given, prompts in (
        (torch.tensor([1, 0, 1]), ["a dog", "a cat", "a dog"]),
        (None, ["", "", ""]),
    ):
        told = torch.cat([pipeline.encode_prompt(p, "cpu", 1, False)[0] for p in prompts])
        expected = pipeline.unet(noisy, times, encoder_hidden_states=told).sample
        actual = prior.predict_noise(latents, noise, 0.5, given)
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)


def test_mistakes_are_named(noised, pooling_prior):
    latents, noise, *_ = noised
    prior = DiffusionPrior(build_dit())
    with pytest.raises(UserError, match=r"class_ids must be in 0\.\.4"):
        prior.predict_noise(latents, noise, 0.5, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(UserError, match=r"Latents must be \(n, 2, 4, 4\)"):
        prior.predict_noise(latents[:, :1], noise[:, :1], 0.5)
    with pytest.raises(UserError, match="PoolingPrior does not say what noise it sees"):
        pooling_prior().predict_noise(latents, noise, 0.5)
