import torch
from toy_nodes import random_nodes

from ddoq.graphs import Nodes


def test_an_adjacency_comes_back():
    nodes = random_nodes()
    matrix = nodes.adjacency()
    assert torch.equal(matrix, matrix.T)
    again = Nodes.of_adjacency(nodes.x, matrix, nodes.labels)
    assert torch.equal(again.edges, nodes.edges)
    assert torch.equal(again.weights, nodes.weights)


def test_what_is_selected_stays_in_the_whole_graph():
    nodes = random_nodes()
    chosen = nodes.select(torch.tensor([4, 1]))
    assert chosen.rows.tolist() == [4, 1]
    assert chosen.labels.tolist() == [0, 1]
    assert len(chosen) == 2
    assert torch.equal(chosen.x, nodes.x)
    assert torch.equal(chosen.edges, nodes.edges)
    assert chosen.select(torch.tensor([1])).rows.tolist() == [1]
    assert chosen.of_class(1).tolist() == [1]


def test_an_induced_graph_has_the_edges_between_its_nodes():
    nodes = random_nodes()
    chosen = torch.tensor([5, 0, 3])
    part = nodes.select(torch.arange(6)).induced(chosen)
    assert torch.equal(part.x, nodes.x[chosen])
    assert torch.equal(part.adjacency(), nodes.adjacency()[chosen][:, chosen])
    assert part.labels.tolist() == [1, 0, 1]
    assert part.rows.tolist() == [0, 1, 2]


def test_weights_count_where_they_differ():
    nodes = random_nodes(count=5, features=2)
    pairs = nodes.edges.shape[1] // 2
    assert nodes.stored_bytes == 4 * 10 + 12 * pairs
    alike = Nodes.of_adjacency(nodes.x, (nodes.adjacency() > 0).float(), nodes.labels)
    assert alike.stored_bytes == 4 * 10 + 8 * pairs
