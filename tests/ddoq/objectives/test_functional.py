import pytest
import torch
from torch import nn

from ddoq.networks import build_network, penultimate
from ddoq.objectives.functional import (
    as_student,
    descend,
    features_of,
    gradients_of,
    logits_of,
    weights_of,
)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("convnet2-w4", 3, 8).double()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_own_weights_give_the_networks_own_answers(network, images):
    weights = weights_of(network)
    assert list(weights) == [name for name, _ in network.named_parameters()]
    assert torch.equal(logits_of(network, weights, images), network(images))
    assert torch.equal(features_of(network, weights, images), penultimate(network, images))


def test_weights_are_copies(network, images):
    weights = weights_of(network)
    before = network(images)
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
    assert torch.equal(network(images), before)
    assert logits_of(network, weights, images).abs().max() == 0


def test_frozen_weights_are_left_to_the_network(network, images):
    network.features.requires_grad_(False)
    assert list(weights_of(network)) == ["classifier.weight", "classifier.bias"]
    assert torch.equal(logits_of(network, weights_of(network), images), network(images))


def test_a_step_equals_that_of_torchs_sgd(network, images):
    labels = torch.tensor([0, 1, 2, 0, 1])
    weights = weights_of(network)
    loss = nn.functional.cross_entropy(logits_of(network, weights, images), labels)
    stepped = descend(weights, gradients_of(loss, weights, differentiable=False), 0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(stepped[name], parameter.detach(), atol=1e-14, rtol=0)


def test_gradients_flow_through_a_training_step_to_its_images(images):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    weights = weights_of(network)
    labels = torch.tensor([0, 1])

    def trained_logits(inputs: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(logits_of(network, weights, inputs), labels)
        stepped = descend(weights, gradients_of(loss, weights, differentiable=True), lr)
        return logits_of(network, stepped, others)

    others = images[2:, :, :2, :2]
    inputs = images[:2, :, :2, :2].clone().requires_grad_()
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(trained_logits, (inputs, lr))


def test_a_student_draws_nothing_and_takes_the_statistics_of_its_batch(images):
    inner = build_network("convnet1-w4-bn", 3, 8).double()
    network = as_student(nn.Sequential(nn.Dropout(0.5), inner))
    logits = network(images)
    assert torch.equal(network(images), logits)
    torch.testing.assert_close(logits, inner.train()(images))
    assert not torch.allclose(logits, inner.eval()(images))
