"""What every dataset of nodes does: splits, features, and graphs that are refused."""

from dataclasses import replace

import pytest
import torch
from toy_nodes import GivenNodes, raw_nodes

from ddoq.data import ClassRegistry
from ddoq.errors import UserError


def opened(raw=None, **settings) -> GivenNodes:
    data = GivenNodes(raw or raw_nodes(), **settings)
    data.setup()
    return data


def test_each_class_is_split_in_four_parts():
    data = opened()
    splits = [getattr(data, name) for name in ("train", "val", "test")]
    assert [torch.bincount(split.labels).tolist() for split in splits] == [[2, 2], [1, 1], [1, 1]]
    assert sorted(torch.cat([split.rows for split in splits]).tolist()) == list(range(8))
    assert all(torch.equal(split.x, raw_nodes().x) for split in splits)  # the graph is whole
    again, other = opened(), opened(split_seed=1)
    assert torch.equal(again.test.rows, data.test.rows)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    assert data.train_fingerprint != other.train_fingerprint


def test_a_split_of_the_source_stays():
    splits = (torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([6, 7]))
    data = opened(replace(raw_nodes(), splits=splits))
    assert data.val.rows.tolist() == [2, 3]
    described = data.describe()
    assert [described[f"{name}_nodes"] for name in ("train", "val", "test")] == [2, 2, 2]
    assert (described["nodes"], described["edges"]) == (8, 8)  # nodes 4 and 5 are there, too


def test_edges_become_undirected_without_loops_or_repetitions():
    odd = torch.tensor([[0, 0, 1, 2, 2], [1, 1, 0, 2, 1]])
    edges = opened(replace(raw_nodes(), edges=odd)).train.edges
    assert sorted(edges.T.tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "Nodes of given have no features"),
        ({"x": torch.zeros(8, 0)}, "Nodes of given have no features"),
        ({"x": torch.zeros(7, 2)}, r"8 labels, but features \(7, 2\)"),
        ({"x": torch.full((8, 2), torch.nan)}, "not finite"),
        ({"edges": torch.tensor([[0], [8]])}, "must join two of its 8 nodes"),
        ({"x": torch.zeros(1, 2), "labels": torch.tensor([0])}, "has 1 nodes, but there must be"),
        ({"labels": torch.zeros(8).long()}, "Class 'odd' of given has 0 nodes"),
        ({"labels": torch.tensor([0] * 6 + [1] * 2)}, "Class 'odd' of given has 2 nodes"),
        ({"classes": ClassRegistry(["even", "odd", "none"])}, "Class 'none' of given has 0 nodes"),
        (
            {"splits": (torch.tensor([0, 2]), torch.tensor([1, 4]), torch.tensor([3, 6]))},
            "The train split of given has no node of 1 of 2 classes.*'odd'",
        ),
    ],
)
def test_graphs_that_no_method_could_take_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        opened(replace(raw_nodes(), **changes))
