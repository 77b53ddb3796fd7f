import pytest
import torch

from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.priors.generators import training
from ddoq.priors.generators.style import StyleShape
from ddoq.priors.generators.training import (
    StyleGame,
    StyleTraining,
    discriminator_loss,
    r1_penalty,
    train_style,
)
from ddoq.seeding import generator_for
from ddoq.storage.checkpoints import Checkpoint

SHAPE = StyleShape(8, 3, noise_width=8, style_width=16, channels=8, max_channels=8)
USUAL = {"batch_size": 16, "lr": 0.004, "r1": 1.0, "r1_interval": 4, "ema": 0.95, "hflip": True}
CPU = torch.device("cpu")


def settings(steps, **changes):
    return StyleTraining(**{"steps": steps, "seed": 0, **USUAL, **changes})


class KilledError(Exception):
    pass


def test_penalty_by_hand():
    images = torch.randn(3, 2, 1, 1, requires_grad=True)
    logits = (images.flatten(1) * torch.tensor([3.0, 4.0])).sum(dim=1)
    assert r1_penalty(logits, images).item() == pytest.approx(12.5)  # half of 9 + 16


def test_losses_by_hand():
    even = torch.zeros(2)
    assert discriminator_loss(even, even).item() == pytest.approx(2 * 0.693147, rel=1e-4)
    sure = discriminator_loss(torch.full((2,), 20.0), torch.full((2,), -20.0))
    assert sure.item() < 1e-6


def test_it_learns_the_colour_of_each_class(coloured_noise):
    data = coloured_noise()
    made, record = train_style(SHAPE, settings(80, batch_size=12), data, device=CPU)
    labels = torch.arange(3).repeat_interleave(8)
    draws = [generator_for(1, "test", number) for number in range(24)]
    latents = made.begin(labels, torch.empty(0), draws)
    colours = made.decode(latents.features, latents.styles).mean(dim=(2, 3))
    real = to_float(data.train.load(range(len(data.train)))).mean(dim=(2, 3))
    wanted = torch.stack([real[data.train.of_class(label)].mean(dim=0) for label in range(3)])
    nearest = torch.cdist(colours, wanted).argmin(dim=1)
    assert (nearest == labels).float().mean() > 0.9
    assert len(record["generator"]) == len(record["discriminator"]) == 50
    assert not made.training


def test_a_killed_training_ends_with_the_same_bits(coloured_noise, tmp_path, monkeypatch):
    data = coloured_noise()
    whole, record = train_style(SHAPE, settings(6), data, device=CPU)
    checkpoint = Checkpoint(tmp_path / "training.checkpoint", "key", seconds=0)
    step = StyleGame.step

    def killed(game, number):
        if number == 4:
            raise KilledError
        return step(game, number)

    monkeypatch.setattr(training.StyleGame, "step", killed)
    with pytest.raises(KilledError):
        train_style(SHAPE, settings(6), data, device=CPU, checkpoint=checkpoint)
    done = []
    monkeypatch.setattr(
        training.StyleGame, "step", lambda game, n: (done.append(n), step(game, n))[1]
    )
    again, other = train_style(SHAPE, settings(6), data, device=CPU, checkpoint=checkpoint)
    assert done == [4, 5]
    assert other == record
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_the_callers_random_state_stays(coloured_noise):
    data = coloured_noise()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_style(SHAPE, settings(1), data, device=CPU)
    assert torch.equal(torch.rand(1), expected)


def test_the_average_follows_the_weights(coloured_noise):
    game = StyleGame(SHAPE, settings(40, ema=0.75), coloured_noise(), CPU)
    before = game.average.constant.clone()
    game.step(0)
    torch.testing.assert_close(
        game.average.constant, 0.1 * before + 0.9 * game._generator.constant
    )  # it forgets how they began
    before = game.average.constant.clone()
    game.step(30)
    weight = game._generator.constant
    torch.testing.assert_close(game.average.constant, 0.75 * before + 0.25 * weight)
    assert not torch.equal(weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "generator.steps must be at least 1"),
        ({"batch_size": 1}, "generator.batch_size must be at least 2"),
        ({"lr": 0.0}, "generator.lr must be above 0"),
        ({"ema": 1.0}, "generator.ema must be in"),
        ({"r1": -1.0}, "generator.r1 must be at least 0"),
    ],
)
def test_settings_outside_their_ranges_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        settings(**{"steps": 1, **change}).check("generator")
