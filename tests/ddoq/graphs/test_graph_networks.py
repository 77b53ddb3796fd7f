"""Networks on graphs, and the dense twin of one of them."""

import pytest
import torch
from toy_graphs import random_graphs

from ddoq.errors import UserError
from ddoq.graphs.batches import Graphs
from ddoq.graphs.build import NETWORKS, POOLINGS, build_graph_network, draw_graph_network
from ddoq.graphs.dense import dense_gcn


def draw(name: str, **kwargs) -> torch.nn.Module:
    return draw_graph_network(name, 3, 2, "test", seed=0, **{"hidden": 8, **kwargs}).eval()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_dense_twin_computes_the_same(pooling, depth):
    network = draw("gcn", pooling=pooling, depth=depth)
    graphs = random_graphs()
    weights = dict(network.named_parameters())
    for name, weight in weights.items():  # torch_geometric begins with biases of zero
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    for size in (None, 9):  # padding changes nothing
        dense = dense_gcn(weights, graphs.dense(size), pooling)
        torch.testing.assert_close(dense, network(graphs), atol=1e-5, rtol=1e-5)


def test_and_has_the_same_gradients():
    network = draw("gcn")
    graphs = random_graphs()
    weights = dict(network.named_parameters())
    gradients = [
        torch.autograd.grad(
            torch.nn.functional.cross_entropy(logits, graphs.labels), weights.values()
        )
        for logits in (network(graphs), dense_gcn(weights, graphs.dense(), "mean"))
    ]
    for sparse, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-4)


def shuffled(graphs: Graphs) -> Graphs:
    """Give the nodes of each graph another order."""
    x, edges = [], []
    for number in range(len(graphs)):
        features, pairs = graphs.single(number)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(number))
        x.append(features[order])
        edges.append(order.argsort()[pairs])
    return Graphs.of(x, edges, graphs.labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_nodes_changes_nothing(name):
    network, graphs = draw(name), random_graphs()
    other = shuffled(graphs)
    assert not torch.equal(other.x, graphs.x)
    torch.testing.assert_close(network.embed(other), network.embed(graphs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_does_not_see_those_beside_it(name):
    network, graphs = draw(name), random_graphs()
    alone = torch.cat([network(graphs.select(torch.tensor([i]))) for i in range(len(graphs))])
    torch.testing.assert_close(alone, network(graphs), atol=1e-5, rtol=1e-4)


def test_weights_follow_seed_and_keys_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = draw("gcn").head.weight
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(draw("gcn").head.weight, first)
    other = draw_graph_network("gcn", 3, 2, "another", seed=0, hidden=8)
    assert not torch.equal(other.head.weight, first)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("gcm", {}, "Did you mean 'gcn'"),
        ("convnet3", {}, "Graphs take gcn, gin, gat"),
        ("gcn", {"heads": 2}, "gcn has no argument 'heads'"),
        ("gat", {"heads": 3}, "hidden must be a multiple of heads, not 128 and 3"),
        ("gin", {"depth": 0}, "gin: depth must be at least 1"),
        ("gin", {"hidden": 2.5}, "gin: hidden must be a whole number"),
        ("gin", {"dropout": 1.0}, r"gin: dropout must be in \[0, 1\)"),
        ("gin", {"pooling": "men"}, "Did you mean 'mean'"),
    ],
)
def test_other_networks_are_refused(name, kwargs, message):
    with pytest.raises(UserError, match=message):
        build_graph_network(name, 3, 2, **kwargs)
