"""Training of the transformer: starting point, hidden labels, and a class that it must learn to draw."""

import pytest
import torch
from diffusers.models.embeddings import LabelEmbedding

from ddoq.priors.training.config import DiTConfig, VAEConfig
from ddoq.priors.training.dit import DiTTraining, build_dit, build_scheduler, train_dit
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
