import pytest
import torch

from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.stages import device_of
from ddoq.costs.workload import Sizes
from ddoq.networks import build_network
from ddoq.priors import DiTConfig, VAEConfig
from ddoq.priors.training.vae import build_vae
from ddoq.priors.training.workload import training_workload

VAE = VAEConfig(channels=(8, 8), steps=3, batch_size=16)
DIT = DiTConfig(layers=1, heads=2, head_dim=8, steps=5, batch_size=8)
SIZES = Sizes(3, 12, 6, 8, 4)


def test_steps_times_batches_and_a_pass_over_all_images():
    networks, stages = training_workload(VAE, DIT, SIZES)
    passes = {stage.name: (stage.passes, stage.batch) for stage in stages}
    assert passes == {
        "prior: train VAE": (3 * 12, 12),  # no batch is larger than the dataset
        "prior: encode": (12, 1),
        "prior: train DiT": (5 * 8, 8),
    }
    assert device_of(networks).type == "meta"
    assert networks.latent_shape == (4, 4, 4)


def test_a_step_is_counted_as_it_is_computed():
    _, (training, _, _) = training_workload(VAE, DIT, SIZES)
    vae = build_vae(VAE, SIZES.image_size)
    images = torch.rand(12, 3, 8, 8)
    step = count_flops(lambda: vae(images).sample.sum().backward())
    assert training.flops == pytest.approx(3 * step, rel=1e-6)


def test_a_classifier_sees_originals_and_reconstructions():
    classifier = on_meta(build_network("convnet2-w8-bn", 3, 8))
    _, (plain, *_) = training_workload(VAE, DIT, SIZES)
    _, (training, *_) = training_workload(VAE, DIT, SIZES, classifier)
    images = torch.zeros(12, 3, 8, 8, device="meta", requires_grad=True)
    step = count_flops(lambda: classifier(images).sum().backward())
    step += count_flops(lambda: classifier(images.detach()))
    assert training.flops - plain.flops == pytest.approx(3 * step, rel=1e-6)


def test_gradients_count_in_the_peak():
    """Weights, both moments and gradients at least."""
    networks, stages = training_workload(VAE, DIT, SIZES)
    for stage, network in ((stages[0], networks.vae), (stages[2], networks.denoiser)):
        weights = sum(p.numel() * 4 for p in network.parameters())
        assert stage.memory > 4 * weights
