import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddoq.augmentation.siamese import augment_siamese, draw_siamese_batch, parse_strategy
from ddoq.data.splits import TensorSplit
from ddoq.decoding.transform import Transform
from ddoq.finite import DivergedError
from ddoq.networks import build_network
from ddoq.objectives.functional import as_student
from ddoq.seeding import generator_for
from ddoq.trajectories import recording
from ddoq.trajectories.recording import ExpertTraining, TrainingImages, record_expert

HALF = Transform.normalize((0.5,) * 3, (0.25,) * 3)
SETTINGS = {
    "epochs": 3,
    "lr": 0.05,
    "batch_size": 4,
    "kinds": (),
    "rho": 0.0,
    "alpha": 0.0,
    "seed": 7,
}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return as_student(build_network("convnet1-w4", 3, 8))


@pytest.fixture
def split() -> TensorSplit:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return TensorSplit(images, torch.arange(10) % 3)


def record(network, split, number=0, **changes):
    images = TrainingImages(split, HALF, torch.device("cpu"))
    return record_expert(network, images, ExpertTraining(**SETTINGS | changes), number)


def vector(network: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach()


@pytest.mark.parametrize("strategy", ["none", "color_crop_flip"])
def test_an_expert_by_torchs_own_optimiser(network, split, strategy):
    kinds = parse_strategy(strategy)
    rows, losses = record(network, split, number=2, kinds=kinds)
    expert = copy.deepcopy(network)
    optimizer = torch.optim.SGD(expert.parameters(), lr=0.05)
    images = (split.images / 255 - 0.5) / 0.25
    assert torch.equal(rows[0], vector(network))
    for epoch in range(3):
        order = torch.randperm(10, generator=generator_for(7, "experts", "order", 2, epoch))
        seen = []
        for step, batch in enumerate((order[:4], order[4:8], order[8:])):
            inputs = images[batch]
            if kinds:
                generator = generator_for(7, "experts", "siamese", 2, epoch, step)
                drawn = draw_siamese_batch(len(batch), (8, 8), kinds, generator)
                inputs = augment_siamese(inputs, drawn)
            optimizer.zero_grad()
            loss = F.cross_entropy(expert(inputs), split.labels[batch])
            loss.backward()
            optimizer.step()
            seen += [loss.item()] * len(batch)
        torch.testing.assert_close(rows[epoch + 1], vector(expert))
        assert losses[epoch] == pytest.approx(sum(seen) / 10, rel=1e-5)


def test_the_flat_step_without_radius_and_share_records_the_same_bits(network, split, monkeypatch):
    plain, _ = record(network, split)
    sharp, _ = record(network, split, rho=0.05, alpha=0.3)
    assert not torch.equal(plain, sharp)

    def step(loss, weights, training):
        return recording.flat_step(loss, weights, training.lr, rho=0.0, alpha=0.0)

    monkeypatch.setattr(recording, "_step", step)
    flat, _ = record(network, split)
    assert torch.equal(plain, flat)


def test_draws_depend_on_seed_and_number(network, split):
    first, again = record(network, split)[0], record(network, split)[0]
    assert torch.equal(first, again)
    assert not torch.equal(record(network, split, number=1)[0][1:], first[1:])
    assert not torch.equal(record(network, split, seed=8)[0][1:], first[1:])


def test_images_that_do_not_fit_are_read_batch_by_batch(network, split, monkeypatch):
    whole, _ = record(network, split)
    monkeypatch.setattr(recording, "fits", lambda *_: False)
    assert torch.equal(record(network, split)[0], whole)


def test_divergence_names_expert_and_epoch(network, split):
    with pytest.raises(DivergedError, match=r"Expert 5 diverged in epoch [12] of 3.*experts\.init"):
        record(network, split, number=5, lr=1e30)
