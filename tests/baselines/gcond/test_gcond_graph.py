"""The synthetic graph: its edges, its turns and its state."""

import pytest
import torch

from baselines.gcond.graph import SyntheticNodes, draw_pair_edges
from ddoq.seeding import generator_for


def features(count=5, columns=3) -> torch.Tensor:
    return torch.randn(count, columns, generator=generator_for(0, "test"))


def synthetic() -> SyntheticNodes:
    labels = torch.tensor([0, 0, 0, 1, 1])
    return SyntheticNodes(features(), labels, draw_pair_edges(3, 8, 3, 5, seed=0), (0.1, 0.2), 2)


def test_edges_are_symmetric_without_loops_and_have_gradients():
    graph = synthetic()
    weights = graph.adjacency()
    assert torch.equal(weights, weights.T)
    assert not weights.diagonal().any()
    assert bool(((weights >= 0) & (weights <= 1)).all())
    leaves = [graph.x, *graph.edges.parameters()]
    gradients = torch.autograd.grad(weights.square().sum(), leaves)
    assert all(bool(gradient.any()) for gradient in gradients)


def test_a_pair_goes_through_the_perceptron_in_both_orders():
    edges, x = draw_pair_edges(3, 8, 3, 5, seed=0), features()

    def perceptron(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([edges.first.weight, edges.second.weight], dim=1)
        y = torch.cat([a, b]) @ joined.T + edges.first.bias
        for layer in (*edges.rest, edges.last):
            y = layer(y.relu())
        return y[0]

    both = (perceptron(x[1], x[4]) + perceptron(x[4], x[1])) / 2
    torch.testing.assert_close(edges(x)[1, 4], both.sigmoid())


def test_the_perceptron_follows_the_seed_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = draw_pair_edges(3, 8, 2, 5, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draw_pair_edges(3, 8, 2, 5, seed=0).last.weight, first.last.weight)
    assert not torch.equal(draw_pair_edges(3, 8, 2, 5, seed=1).last.weight, first.last.weight)
    assert len(first.rest) == 0


def test_edges_begin_with_the_weight_of_a_node_all_together():
    x = features(40)
    weights = draw_pair_edges(3, 8, 3, 40, seed=0)(x)
    assert weights.sum(dim=1).mean().item() == pytest.approx(1, abs=0.4)


@pytest.mark.parametrize(("step", "factor"), [(1, 1.0), (2, 0.1)])
def test_a_part_moves_in_its_turn_alone_and_its_rate_falls(step, factor):
    graph = synthetic()
    for part, rate in (("x", 0.1), ("edges", 0.2)):
        x = graph.x.detach().clone()
        last = graph.edges.last.weight.detach().clone()
        graph.descend(graph.adjacency().square().sum(), part, step)
        moved = {
            "x": (graph.x - x).abs().max().item(),
            "edges": (graph.edges.last.weight - last).abs().max().item(),
        }
        # Adam's first step is as long as its rate.
        assert moved.pop(part) == pytest.approx(rate * factor, rel=1e-2)
        assert set(moved.values()) == {0.0}


def test_edges_above_the_threshold_keep_their_weights():
    graph = synthetic()
    weights = graph.adjacency().detach()
    threshold = weights[0, 1].item()
    kept = graph.sparse(threshold).adjacency()
    assert torch.equal(kept, weights * (weights > threshold))
    assert kept[0, 1] == 0
    assert kept.any()
    assert len(graph.sparse(0.0).edges.T) == 5 * 4
