"""Training of the transformer: starting point, hidden labels, and a class that it must learn to draw."""

import pytest
import torch
from diffusers.models.embeddings import LabelEmbedding

from ddoq.priors.training.config import DiTConfig, VAEConfig
from ddoq.priors.training.dit import (
    DiTTraining,
    build_dit,
    build_scheduler,
    loss_weights,
    train_dit,
)
from ddoq.priors.training.vae import build_vae

CONFIG = DiTConfig(layers=2, heads=2, head_dim=8, steps=20, batch_size=8)


def make_module(config=CONFIG):
    dit = build_dit(config, (2, 4, 4), 3)
    module = DiTTraining(dit, build_scheduler(config), config, seed=0)
    module.record = lambda loss: None
    module.on_train_start()
    return module


def test_starts_at_zero_output():
    dit = build_dit(CONFIG, (2, 4, 4), 3)
    out = dit(torch.randn(2, 2, 4, 4), torch.tensor([5, 900]), torch.tensor([0, 3])).sample
    assert out.shape == (2, 2, 4, 4)
    assert float(out.abs().max()) == 0.0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_loss_at_the_start_is_the_power_of_the_target(prediction):
    module = make_module(DiTConfig(layers=1, heads=2, head_dim=8, prediction=prediction))
    latents = torch.randn(512, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = module.training_step((latents, torch.zeros(512, dtype=torch.long)), 0)
    # Unit-variance latents and noise: both targets have variance 1, and the network says 0.
    assert float(loss) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_weights_bound_the_ratio_with_which_errors_of_the_latent_count(prediction):
    scheduler = build_scheduler(DiTConfig(prediction=prediction))
    times = torch.tensor([0, 10, 300, 500, 900, 998])
    signal = scheduler.alphas_cumprod[times].double()
    latent, noise, wrong = torch.randn(3, 6, 1, dtype=torch.float64, generator=torch.manual_seed(0))
    a, s = signal.sqrt()[:, None], (1 - signal).sqrt()[:, None]
    # A prediction that stands for another latent of the same noisy one.
    noisy = a * latent + s * noise
    noise_of_wrong = (noisy - a * wrong) / s
    if prediction == "epsilon":
        error = noise_of_wrong - noise
    else:
        error = (a * noise_of_wrong - s * wrong) - (a * noise - s * latent)
    weights = loss_weights(scheduler, times, prediction, 5.0).double()
    counted = weights * error[:, 0] ** 2 / (wrong - latent)[:, 0] ** 2
    ratio = signal / (1 - signal)
    assert counted.tolist() == pytest.approx(ratio.clamp(max=5.0).tolist(), rel=1e-4)
    assert float(ratio.max()) > 1000
    assert float(ratio.min()) < 1e-3
    assert loss_weights(scheduler, times, prediction, None).tolist() == [1.0] * 6


def test_without_a_bound_loss_and_gradients_are_those_of_the_squared_error_bit_for_bit(monkeypatch):
    latents = torch.randn(7, 2, 4, 4, generator=torch.manual_seed(0))
    batch = (latents, torch.zeros(7, dtype=torch.long))
    torch.manual_seed(0)
    module = make_module()
    seen = {}
    whole = torch.nn.functional.mse_loss

    def squared_error(predicted, target, **rest):
        seen.update(predicted=predicted, target=target)
        return whole(predicted, target, **rest)

    monkeypatch.setattr("ddoq.priors.training.dit.F.mse_loss", squared_error)
    loss = module.training_step(batch, 0)
    (gradient,) = torch.autograd.grad(loss, seen["predicted"], retain_graph=True)
    plain = whole(seen["predicted"], seen["target"])
    assert torch.equal(loss, plain)
    assert torch.equal(gradient, torch.autograd.grad(plain, seen["predicted"])[0])


def test_weights_enter_the_loss_and_a_bound_that_none_reaches_counts_errors_of_the_latent():
    latents = torch.randn(64, 2, 4, 4, generator=torch.manual_seed(0))
    labels = torch.zeros(64, dtype=torch.long)
    losses = []
    for bound in (None, 5.0, 0.5):
        config = DiTConfig(layers=1, heads=2, head_dim=8, min_snr=bound)
        losses.append(float(make_module(config).training_step((latents, labels), 0)))
    assert losses[0] > losses[1] > losses[2] > 0


def test_attention_under_autocast_is_that_of_float32_up_to_rounding():
    latents = torch.randn(16, 2, 4, 4, generator=torch.manual_seed(0))
    batch = (latents, torch.zeros(16, dtype=torch.long))
    gradients = []
    for low in (False, True):
        torch.manual_seed(0)
        module = make_module().train()
        for layer in (module.dit.proj_out_1, module.dit.proj_out_2):
            torch.nn.init.normal_(layer.weight, std=0.1, generator=torch.manual_seed(1))
        for block in module.dit.transformer_blocks:
            torch.nn.init.normal_(
                block.norm1.linear.weight, std=0.1, generator=torch.manual_seed(1)
            )
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            loss = module.training_step(batch, 0)
        loss.backward()
        gradients.append(module.dit.transformer_blocks[0].attn1.to_q.weight.grad.flatten())
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.99
    assert not torch.equal(*gradients)


def test_a_label_is_hidden_in_all_blocks_or_in_none():
    module = make_module().train()
    seen = []
    for part in module.dit.modules():
        if isinstance(part, LabelEmbedding):
            part.embedding_table.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].clone())
            )
    labels = torch.arange(3).repeat(400)
    module.training_step((torch.randn(1200, 2, 4, 4), labels), 0)
    assert len(seen) == 3  # two blocks and the output, which asks the first block's table
    assert all(torch.equal(seen[0], other) for other in seen)
    hidden = seen[0] == 3
    assert 0.06 < float(hidden.float().mean()) < 0.14
    assert torch.equal(seen[0][~hidden], labels[~hidden])


def test_noise_does_not_depend_on_the_global_state():
    losses = []
    for seed in (0, 1):
        torch.manual_seed(5)
        module = make_module()
        latents = torch.ones(8, 2, 4, 4)
        torch.manual_seed(seed)
        losses.append(module.training_step((latents, torch.zeros(8, dtype=torch.long)), 0))
    assert torch.equal(losses[0], losses[1])


def test_average_of_weights_is_what_is_kept(make_random_data, quiet):
    data = make_random_data()
    vae = build_vae(VAEConfig(channels=(8, 8), latent_channels=2), 8).eval()
    results = []
    for decay in (0.0, 0.9):
        config = DiTConfig(layers=1, heads=2, head_dim=8, steps=10, batch_size=8, ema_decay=decay)
        dit, scheduler, record = train_dit(config, vae, data, seed=0, trainer=quiet)
        results.append(dit.proj_out_2.weight)
        assert record["losses"][-1] < record["losses"][0] * 1.5
        assert not dit.training
    assert scheduler.config.beta_schedule == config.schedule
    # The average lags behind the last weights, which have moved away from zero.
    assert results[1].norm() < results[0].norm()
