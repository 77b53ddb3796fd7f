import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ddoq.networks import build_network
from ddoq.objectives.functional import flatten_weights, logits_of, weights_of
from ddoq.trajectories.steps import flat_step, plain_step

LR = 0.1


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("convnet1-w4", 3, 8)


@pytest.fixture
def loss(network):
    images = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(9) % 3
    return lambda weights: F.cross_entropy(logits_of(network, weights, images), labels)


def gradient(loss, weights) -> torch.Tensor:
    parts = torch.autograd.grad(loss(weights), list(weights.values()))
    return torch.cat([part.flatten() for part in parts])


def test_the_plain_step_is_torchs_sgd(network, loss):
    weights = weights_of(network)
    stepped, before = plain_step(loss, weights, LR)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    value = loss(dict(network.named_parameters()))
    value.backward()
    optimizer.step()
    assert torch.equal(before, value.detach())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(stepped[name].detach(), parameter.detach())


@pytest.mark.parametrize(("rho", "alpha"), [(0.05, 0.0), (0.0, 0.5), (0.05, 0.3)])
def test_the_flat_step_by_hand(network, loss, rho, alpha):
    weights = weights_of(network)
    p, g = flatten_weights(weights), gradient(loss, weights)
    moved = p + rho * p**2 * g / (p.abs() * g).norm()
    parts = dict(zip(weights, moved.split([w.numel() for w in weights.values()]), strict=True))
    disturbed = {n: part.reshape(weights[n].shape).requires_grad_() for n, part in parts.items()}
    sharp = gradient(loss, disturbed)
    orthogonal = g - (g @ sharp) / (sharp @ sharp) * sharp
    assert abs(orthogonal @ sharp) < 1e-6
    stepped, before = flat_step(loss, weights, LR, rho=rho, alpha=alpha)
    expected = p - LR * (sharp - alpha * orthogonal)
    torch.testing.assert_close(flatten_weights(stepped), expected)
    assert torch.equal(before, loss(weights).detach())


def test_without_radius_and_share_it_is_the_plain_step_bit_for_bit(network, loss):
    weights = weights_of(network)
    flat, _ = flat_step(loss, weights, LR, rho=0.0, alpha=0.0)
    plain, _ = plain_step(loss, weights, LR)
    assert torch.equal(flatten_weights(flat), flatten_weights(plain))
    sharp, _ = flat_step(loss, weights, LR, rho=0.05, alpha=0.0)
    assert not torch.equal(flatten_weights(sharp), flatten_weights(plain))


def test_weights_at_rest_stay_finite():
    rest = {"w": torch.zeros(3, requires_grad=True)}
    stepped, _ = flat_step(lambda w: w["w"].square().sum(), rest, LR, rho=0.1, alpha=1.0)
    assert torch.equal(stepped["w"].detach(), torch.zeros(3))
