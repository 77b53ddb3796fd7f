import pytest
import torch
from torch import nn

from ddoq.augmentation.siamese import parse_strategy
from ddoq.data.splits import TensorSplit
from ddoq.decoding.transform import Transform
from ddoq.finite import DivergedError
from ddoq.networks import draw_network
from ddoq.objectives.functional import as_student, weights_of
from ddoq.trajectories.recording import ExpertTraining, TrainingImages, record_expert
from ddoq.trajectories.stacked import record_stacked

HALF = Transform.normalize((0.5,) * 3, (0.25,) * 3)
KINDS = parse_strategy("color_crop_flip")
SETTINGS = {"epochs": 2, "lr": 0.05, "batch_size": 4, "rho": 0.0, "alpha": 0.0, "seed": 7}
# Float32 sums in another order, over some steps of a network whose weights are about 0.1.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def images() -> TrainingImages:
    generator = torch.Generator().manual_seed(3)
    stored = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8, generator=generator)
    split = TensorSplit(stored, torch.arange(10) % 3)  # the last batch has two images
    return TrainingImages(split, HALF, torch.device("cpu"))


def networks(arch: str, count: int) -> list[nn.Module]:
    return [as_student(draw_network(arch, 3, 8, n, seed=0)) for n in range(count)]


def both(images, arch="convnet1-w4", numbers=(4, 5, 6), **changes):
    """Train experts side by side, and one after another."""
    training = ExpertTraining(**{"kinds": KINDS, **SETTINGS, **changes})
    alone = networks(arch, len(numbers))
    starts = [weights_of(network) for network in alone]
    together = record_stacked(alone[0], starts, images, training, numbers)
    pairs = zip(alone, numbers, strict=True)
    return together, [record_expert(one, images, training, number) for one, number in pairs]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kinds": ()},
        {"rho": 0.05, "alpha": 0.3},
        {"arch": "convnet1-w4-bn"},  # batch norm takes the statistics of each expert's batch
        {"arch": "convnet2-w4"},
        {"numbers": (2,)},
    ],
    ids=str,
)
def test_side_by_side_they_learn_what_each_learns_alone(images, changes):
    together, alone = both(images, **changes)
    assert len(together) == len(alone)
    for (rows, losses), (expected, told) in zip(together, alone, strict=True):
        assert torch.equal(rows[0], expected[0])
        assert rows.shape == expected.shape
        assert not torch.allclose(rows[-1], rows[0], **CLOSE)
        torch.testing.assert_close(rows, expected, **CLOSE)
        assert losses == pytest.approx(told, rel=1e-4)


def test_sharp_steps_are_not_plain_ones(images):
    plain, sharp = both(images)[0], both(images, rho=0.05, alpha=0.3)[0]
    assert not torch.allclose(plain[0][0], sharp[0][0], **CLOSE)


def test_the_network_is_left_as_it_was(images):
    (network,) = networks("convnet1-w4-bn", 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    training = ExpertTraining(**{"kinds": (), **SETTINGS})
    record_stacked(network, [weights_of(network)], images, training, (0,))
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_divergence_names_the_expert(images):
    training = ExpertTraining(**{"kinds": (), **SETTINGS, "lr": 0.01})
    calm, wild = (weights_of(network) for network in networks("convnet1-w4", 2))
    next(iter(wild.values())).data.fill_(float("inf"))
    with pytest.raises(DivergedError, match=r"Expert 9 diverged in epoch 1 of 2"):
        record_stacked(networks("convnet1-w4", 1)[0], [calm, wild], images, training, (8, 9))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_they_are_those_of_the_cpu(images):
    training = ExpertTraining(**{"kinds": KINDS, **SETTINGS})
    alone = networks("convnet1-w4", 2)
    starts = [weights_of(network) for network in alone]
    expected = record_stacked(alone[0], starts, images, training, (0, 1))
    device = torch.device("cuda")
    there = TrainingImages(images._split, HALF.to(device), device)
    moved = [{name: weight.to(device) for name, weight in start.items()} for start in starts]
    found = record_stacked(alone[0].to(device), moved, there, training, (0, 1))
    for (rows, _), (wanted, _) in zip(found, expected, strict=True):
        torch.testing.assert_close(rows, wanted, rtol=1e-3, atol=1e-4)
