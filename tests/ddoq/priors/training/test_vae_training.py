"""Training of the autoencoder: its loss against torch's own divergence, and what it learns."""

from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddoq.networks import build_network
from ddoq.networks.features import penultimate
from ddoq.objectives.features import relative_error
from ddoq.priors.training import vae as vae_module
from ddoq.priors.training.config import VAEConfig
from ddoq.priors.training.vae import (
    VAETraining,
    build_vae,
    encode_split,
    psnr,
    reconstruct,
    reconstruction_error,
    train_vae,
)
from ddoq.seeding import generator_for
from ddoq.teachers import Teacher

CONFIG = VAEConfig(channels=(8, 8), latent_channels=2, steps=30, batch_size=8)


def test_loss_equals_the_formula():
    vae = build_vae(CONFIG, 8)
    module = VAETraining(vae, VAEConfig(channels=(8, 8), kl_weight=0.5), seed=3)
    module.record = lambda loss: None
    module.on_train_start()
    batch = torch.randint(256, (4, 3, 8, 8)).to(torch.uint8)
    posterior = vae.encode(batch / 127.5 - 1).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator_for(3, "vae", "draws"))
    decoded = (vae.decode(posterior.mean + posterior.std * noise).sample + 1) / 2
    q, unit = Normal(posterior.mean, posterior.std), Normal(torch.tensor(0.0), torch.tensor(1.0))
    expected = (decoded - batch / 255).pow(2).mean() + 0.5 * kl_divergence(q, unit).mean()
    torch.testing.assert_close(module.training_step(batch, 0), expected)


def make_classifier() -> Teacher:
    torch.manual_seed(1)
    network = build_network("convnet2-w8-bn", num_classes=3, image_size=8)
    names = ["a", "b", "c"]
    return Teacher(
        network, arch="x", class_names=names, class_keys=names, image_size=8, accuracy=0.5
    )


def test_features_of_a_classifier_enter_the_loss_and_the_classifier_stays_as_it_was():
    vae, classifier = build_vae(CONFIG, 8), make_classifier()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    config = VAEConfig(channels=(8, 8), kl_weight=0.5, feature_weight=0.2)
    batch = torch.randint(256, (4, 3, 8, 8)).to(torch.uint8)
    losses = []
    for given in (None, classifier):
        module = VAETraining(vae, config, seed=3, classifier=given)
        module.train()
        module.record = lambda loss: None
        module.on_train_start()
        losses.append(module.training_step(batch, 0))
    noise = torch.randn(4, 2, 4, 4, generator=generator_for(3, "vae", "draws"))
    posterior = vae.encode(batch / 127.5 - 1).latent_dist
    decoded = (vae.decode(posterior.mean + posterior.std * noise).sample + 1) / 2
    images = torch.cat([decoded, batch / 255])
    got, want = penultimate(classifier.network, classifier.normalize(images)).chunk(2)
    shares = [((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(got, want, strict=True)]
    torch.testing.assert_close(losses[1] - losses[0], 0.2 * torch.stack(shares).mean())
    losses[1].backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.decoder.conv_out.parameters())
    assert all(p.grad is None for p in classifier.parameters())
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_features_come_nearer_where_they_count(make_random_data, quiet):
    data, classifier = make_random_data(), make_classifier()
    images = data.test.images / 255
    errors = []
    for weight in (0.0, 1.0):
        config = replace(CONFIG, feature_weight=weight)
        vae, _ = train_vae(config, data, seed=0, trainer=quiet, classifier=classifier)
        got, want = (
            penultimate(classifier.network, classifier.normalize(x))
            for x in (reconstruct(vae, images), images)
        )
        errors.append(float(relative_error(got, want)))
    assert errors[1] < 0.9 * errors[0]


def test_training_learns_and_records(make_random_data, quiet):
    data = make_random_data()
    vae, record = train_vae(CONFIG, data, seed=0, trainer=quiet)
    assert not vae.training
    assert record["losses"][-1] < record["losses"][0]
    assert record["parameters"] == sum(p.numel() for p in vae.parameters())
    latents = encode_split(vae, data.train)
    assert latents.shape == (18, 2, 4, 4)
    assert float(latents.std()) == pytest.approx(1.0, abs=1e-4)
    images = data.test.images / 255
    expected = ((reconstruct(vae, images) - images) ** 2).mean()
    assert reconstruction_error(vae, data.test) == pytest.approx(float(expected), rel=1e-4)


def test_every_part_says_how_far_it_is(make_random_data, quiet, capsys, monkeypatch):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    monkeypatch.setattr(vae_module, "EVALUATION_BATCH", 10)  # of 18 images
    config = VAEConfig(channels=(8, 8), latent_channels=2, steps=3, batch_size=8)
    train_vae(config, make_random_data(), seed=0, trainer=quiet)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "prior: autoencoder: 1 of 3 steps",
        "prior: autoencoder: 2 of 3 steps",
        "prior: encoding: 10 of 18 images",
        "prior: reconstructing: 10 of 18 images",
    ]


def test_attention_and_downsampling_by_four():
    vae = build_vae(VAEConfig(channels=(8, 8, 8), attention=True), 32)
    assert vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean.shape == (1, 4, 8, 8)


def test_psnr():
    assert psnr(1.0) == 0.0
    assert psnr(1e-4) == pytest.approx(40.0)
    assert psnr(0.0) == pytest.approx(120.0)
