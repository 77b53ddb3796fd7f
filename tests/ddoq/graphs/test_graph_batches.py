import pytest
import torch
from toy_graphs import random_graphs

from ddoq.graphs.batches import DenseGraphs, Graphs


def same(left: Graphs, right: Graphs) -> None:
    for name in ("x", "owner", "labels"):
        assert torch.equal(getattr(left, name), getattr(right, name)), name
    listed = [sorted(map(tuple, each.edges.T.tolist())) for each in (left, right)]
    assert listed[0] == listed[1]


def test_selected_graphs_are_the_same_ones_in_their_order():
    graphs = random_graphs()
    order = torch.tensor([2, 0, 3])
    singles = [graphs.single(i) for i in order.tolist()]
    x, edges = zip(*singles, strict=True)
    same(graphs.select(order), Graphs.of(x, edges, graphs.labels[order]))
    same(graphs.select(torch.arange(4)), graphs)


def test_dense_and_back():
    graphs = random_graphs()
    same(graphs.dense().sparse(), graphs)
    wide = graphs.dense(9)
    assert wide.x.shape[:2] == (4, 9)
    assert torch.equal(wide.adjacency, wide.adjacency.mT)
    assert wide.mask.sum(dim=1).tolist() == graphs.nodes.tolist()
    same(wide.sparse(), graphs)


def test_degrees_are_row_sums():
    graphs = random_graphs()
    dense = graphs.dense()
    assert torch.equal(dense.adjacency.sum(-1)[dense.mask].long(), graphs.degrees)
    assert graphs.edge_counts.tolist() == dense.adjacency.sum((1, 2)).long().tolist()


def test_bytes_are_of_nodes_and_edges_that_are_there():
    graphs = random_graphs(count=1)
    assert graphs.stored_bytes == 4 * 3 * 3 + 8 * int(graphs.edge_counts.sum() // 2)


def test_graphs_without_edges_are_graphs():
    lonely = DenseGraphs(
        torch.ones(2, 3, 1), torch.zeros(2, 3, 3), torch.ones(2, 3).bool(), torch.tensor([0, 1])
    ).sparse()
    assert lonely.edges.shape == (2, 0)
    assert lonely.select(torch.tensor([1])).nodes.tolist() == [3]
    assert lonely.degrees.tolist() == [0] * 6


@pytest.mark.parametrize("device", ["cpu"])
def test_copies(device):
    graphs = random_graphs()
    assert graphs.to(device).x is graphs.x
