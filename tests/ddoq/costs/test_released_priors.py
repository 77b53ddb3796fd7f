import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler

from ddoq.costs.flops import count_flops
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.released_priors import RELEASED, folder_networks, released_networks
from ddoq.costs.stages import device_of
from ddoq.errors import UserError
from ddoq.priors.base import Sampling
from ddoq.priors.diffusion import DiffusionPrior


def size(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_stable_diffusion_has_its_published_size():
    networks = released_networks("stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert device_of(networks).type == "meta"
    assert round(size(networks.denoiser) / 1e6, 1) == 859.5
    assert round(size(networks.vae) / 1e6, 1) == 83.7
    assert round(size(networks.text_encoder) / 1e6, 1) == 123.1
    assert networks.image_size == 512


def test_dit_has_its_published_size_and_cost():
    networks = released_networks("facebook/DiT-XL-2-256")
    # diffusers has 28 copies of the embedders of time and class, the paper's network one.
    embedder = size(networks.denoiser.transformer_blocks[0].norm1.emb)
    assert round((size(networks.denoiser) - 27 * embedder) / 1e6) == 675
    # Peebles and Xie 2023, table 4: 118.6 Gflops, counting a multiply-add once.
    assert count_flops(lambda: networks.denoise(1)) / 2e9 == pytest.approx(118.6, rel=0.005)


def test_other_names_are_refused_with_those_that_are_known():
    with pytest.raises(UserError, match=r"a/b are not known.*stable-diffusion-v1-5"):
        released_networks("a/b")
    assert "facebook/DiT-XL-2-256" in RELEASED


@pytest.mark.parametrize(
    ("scheduler", "sampling", "passes"),
    [
        (DDIMScheduler(), Sampling(0.7, 4.0, 50), 70),
        (DDIMScheduler(), Sampling(0.7, 1.0, 50), 35),
        (DPMSolverMultistepScheduler(), Sampling(0.5, 1.0, 20), 10),
        (
            HeunDiscreteScheduler(),
            Sampling(1.0, 1.0, 10),
            19,
        ),  # second order: 2 a step, 1 at the last
    ],
)
def test_passes_follow_scheduler_and_guidance(make_pipeline, scheduler, sampling, passes):
    pipeline = make_pipeline()
    networks = PriorNetworks(pipeline.vae, pipeline.transformer, scheduler)
    assert sampling.passes(networks.scheduler) == passes


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_prediction_is_what_generation_computes(make_pipeline, scale):
    prior = DiffusionPrior(make_pipeline())
    networks, sampling = prior.networks(), Sampling(0.7, scale, 10)
    generators = [torch.Generator().manual_seed(number) for number in range(3)]
    ids = torch.zeros(3, dtype=torch.long)
    latents = torch.zeros(3, *prior.latent_shape)
    counted = count_flops(
        lambda: prior.generate(latents, ids, generators=generators, sampling=sampling)
    )
    passes = sampling.passes(networks.scheduler)
    one = passes * count_flops(lambda: networks.denoise(1)) + count_flops(
        lambda: networks.decode(1)
    )
    assert counted == 3 * one
    encoded = count_flops(lambda: prior.encode(torch.rand(3, 3, 8, 8)))
    assert encoded == 3 * count_flops(lambda: networks.encode(1))
    assert next(prior.transformer.parameters()).device.type == "cpu"


def test_a_folder_is_read_without_its_weights(make_pipeline, tmp_path):
    prior = DiffusionPrior(make_pipeline())
    prior.save(tmp_path)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()
    networks = folder_networks(tmp_path)
    assert networks.latent_shape == prior.latent_shape
    assert size(networks.denoiser) == size(prior.transformer)
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match="no diffusers folder that can be planned for"):
        folder_networks(tmp_path)


def test_a_prior_of_another_kind_is_unknown(pooling_prior):
    assert pooling_prior().networks() is None
