"""Networks on the nodes of a graph, and the dense twin of one of them."""

import pytest
import torch
from toy_nodes import random_nodes

from ddoq.errors import UserError
from ddoq.graphs import Nodes
from ddoq.graphs.build import (
    NETWORKS,
    NODE_NETWORKS,
    build_graph_network,
    build_node_network,
    draw_graph_network,
)
from ddoq.graphs.dense import dense_node_gcn
from ddoq.graphs.training import Training, answers


def draw(name: str, **kwargs) -> torch.nn.Module:
    given = {"hidden": 8, **kwargs}
    return draw_graph_network(name, 3, 2, "test", seed=0, task="nodes", **given).eval()


def alike(nodes: Nodes) -> Nodes:
    """Give all edges the weight 1."""
    return Nodes.of_adjacency(nodes.x, (nodes.adjacency() > 0).float(), nodes.labels)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_dense_twin_computes_the_same_on_edges_of_any_weight(depth):
    network, nodes = draw("gcn", depth=depth), random_nodes()
    weights = dict(network.named_parameters())
    for name, weight in weights.items():  # torch_geometric begins with biases of zero
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    dense = dense_node_gcn(weights, nodes.x, nodes.adjacency())
    torch.testing.assert_close(dense, network(nodes), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NODE_NETWORKS)
def test_edges_of_weight_one_are_those_of_graphs(name):
    """A layer for nodes says of them what a layer for graphs does."""
    nodes, network = alike(random_nodes()), draw(name)
    twin = build_graph_network(name, 3, 2, hidden=8, depth=2).eval()
    twin.load_state_dict(network.state_dict())
    expected = twin.head(twin.pass_messages(nodes.x, nodes.edges))
    torch.testing.assert_close(network(nodes), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NODE_NETWORKS)
def test_weights_of_edges_count_but_for_attention(name):
    nodes, network = random_nodes(), draw(name)
    assert torch.equal(network(nodes), network(alike(nodes))) == (name == "gat")


@pytest.mark.parametrize("name", NODE_NETWORKS)
def test_selected_nodes_get_the_answers_that_they_get_among_all(name):
    nodes, network = random_nodes(), draw(name)
    rows = torch.tensor([5, 0])
    torch.testing.assert_close(network(nodes.select(rows)), network(nodes)[rows])
    torch.testing.assert_close(answers(network, nodes, 3), network(nodes))


def test_a_network_learns_nodes_some_at_a_time():
    nodes, network = random_nodes(), draw("gcn", hidden=16)
    learning = Training(network, nodes, epochs=30, batch_size=4, lr=0.05, keys=(0, "order"))
    assert learning.run(None, "test", "") < 0.5


def test_tables_differ_by_pooling_alone():
    assert NODE_NETWORKS.keys() == NETWORKS.keys()
    for name, settings in NODE_NETWORKS.items():
        assert {*settings, "pooling"} == set(NETWORKS[name])
    with pytest.raises(UserError, match="gcn on nodes has no argument 'pooling'"):
        build_node_network("gcn", 3, 2, pooling="sum")
    with pytest.raises(UserError, match="Did you mean 'gat'"):
        build_node_network("gatt", 3, 2)
