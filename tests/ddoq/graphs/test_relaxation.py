import pytest
import torch

from ddoq.graphs.relaxation import (
    density,
    discrete_adjacency,
    edge_noise,
    initial_logits,
    relaxed_adjacency,
    temperature_at,
)
from ddoq.seeding import generator_for


@pytest.fixture
def logits():
    return torch.randn(3, 5, 5, generator=generator_for(0, "logits"))


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_relaxed_edges_are_symmetric_in_bounds_and_no_loops(logits, temperature):
    noise = edge_noise((3, 5, 5), generator_for(0, "noise"))
    soft = relaxed_adjacency(logits, noise, temperature)
    assert torch.equal(soft, soft.mT)
    assert torch.equal(soft.diagonal(dim1=1, dim2=2), torch.zeros(3, 5))
    assert soft.min() >= 0
    assert soft.max() <= 1
    assert torch.isfinite(soft).all()


def test_gradients_reach_every_edge(logits):
    logits.requires_grad_()
    noise = edge_noise((3, 5, 5), generator_for(0, "noise"))
    weights = torch.rand(3, 5, 5, generator=generator_for(0, "weights"))
    (relaxed_adjacency(logits, noise, 1.0) * weights).sum().backward()
    others = ~torch.eye(5).bool()
    assert (logits.grad[:, others] > 0).all()
    assert torch.equal(logits.grad, logits.grad.mT)
    assert (logits.grad[:, ~others] == 0).all()


def test_noise_is_one_uniform_number_an_edge():
    noise = edge_noise((40, 30, 30), generator_for(1))
    assert torch.equal(noise, noise.mT)
    assert 0 < noise.min() < noise.max() < 1
    drawn = noise[:, torch.ones(30, 30).triu(1).bool()]
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.std().item() == pytest.approx(12**-0.5, abs=0.01)
    assert torch.equal(noise, edge_noise((40, 30, 30), generator_for(1)))


def test_samples_are_edges_as_often_as_logits_say():
    logits = torch.full((1, 100, 100), 1.0)
    soft = relaxed_adjacency(logits, edge_noise((1, 100, 100), generator_for(2)), 0.01)
    share = (soft > 0.5).float().sum() / (100 * 99)
    assert share.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.01)


def test_discrete_edges_are_those_that_are_likelier_than_not():
    logits = torch.tensor([[[9.0, 1.0, -3.0], [1.0, 9.0, 2.0], [1.0, -1.0, 9.0]]])
    expected = torch.tensor([[[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]])
    assert torch.equal(discrete_adjacency(logits), expected)
    assert torch.equal(discrete_adjacency(initial_logits(expected)), expected)
    assert set(initial_logits(expected).unique().tolist()) == {-5.0, 5.0}


def test_density_is_over_pairs_of_different_nodes():
    assert density(torch.zeros(2, 4, 4)).item() == pytest.approx(0.5)
    assert density(torch.full((2, 4, 4), 100.0)).item() == pytest.approx(1.0)


def test_temperatures_fall_to_a_floor():
    values = [temperature_at(step) for step in range(0, 400, 10)]
    assert values[0] == 1.0
    assert values == sorted(values, reverse=True)
    assert values[-1] == 0.01
