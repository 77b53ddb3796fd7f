"""What every dataset of graphs does: splits, features, and graphs that are refused."""

from dataclasses import replace

import pytest
import torch
from toy_graphs import GivenGraphs, raw_graphs

from ddoq.errors import UserError


def opened(raw=None, **settings) -> GivenGraphs:
    data = GivenGraphs(raw or raw_graphs(), **settings)
    data.setup()
    return data


def without(sequence, position, value):
    return [*sequence[:position], value, *sequence[position + 1 :]]


def test_each_class_is_split_in_ten_parts():
    data = opened(raw_graphs(per_class=20))
    counts = [
        torch.bincount(getattr(data, name).labels).tolist() for name in ("train", "val", "test")
    ]
    assert counts == [[16, 16], [2, 2], [2, 2]]
    again, other = opened(raw_graphs(per_class=20)), opened(raw_graphs(per_class=20), split_seed=1)
    assert torch.equal(again.test.x, data.test.x)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    every = torch.cat([data.train.x, data.val.x, data.test.x])
    assert len(every.unique(dim=0)) == 40 * 3  # no graph twice


def test_a_split_of_the_source_stays():
    raw = raw_graphs()
    splits = (torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5]), torch.tensor([6, 7]))
    data = opened(replace(raw, splits=splits))
    assert torch.equal(data.val.x, torch.cat([raw.x[4], raw.x[5]]))
    single = replace(
        raw, splits=splits, x=without(raw.x, 1, raw.x[1][:1]), nodes=without(raw.nodes, 1, 1)
    )
    single = replace(single, edges=without(raw.edges, 1, torch.zeros(2, 0, dtype=torch.long)))
    kept = opened(single, drop_single_nodes=True)
    assert len(kept.train) == 3
    assert torch.equal(kept.val.x, data.val.x)
    assert kept.notes == ["1 graphs of fewer than two nodes are left out."]


def test_edges_become_undirected_without_loops_or_repetitions():
    raw = raw_graphs()
    odd = torch.tensor([[0, 0, 1, 2, 2], [1, 1, 0, 2, 1]])
    data = opened(replace(raw, edges=[odd] * 8))
    _, edges = data.train.single(0)
    assert sorted(edges.T.tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1]]


def test_degrees_stand_in_for_features_and_are_noted():
    raw = replace(raw_graphs(), x=[None] * 8)
    data = opened(raw, degrees=4)
    assert data.num_features == 4
    assert data.train.x.argmax(dim=1).unique().tolist() == [2]  # of a ring
    assert "indicators of their degrees in 4 columns" in data.notes[0]
    assert opened(raw, degrees=2).train.x.argmax(dim=1).unique().tolist() == [1]  # the last
    asked = opened(features="degree", degrees=4)
    assert asked.num_features == 4
    assert asked.notes == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": [1] + [3] * 7}, "fewer than two nodes.*graph 0.*drop_single_nodes"),
        ({"x": [None, *raw_graphs().x[1:]]}, "have no features, first those of graph 0"),
        ({"x": [torch.ones(3, 5), *raw_graphs().x[1:]]}, r"different lengths: \[2, 5\]"),
        ({"x": [torch.full((3, 2), torch.nan), *raw_graphs().x[1:]]}, "not finite"),
        ({"labels": torch.tensor([0] * 8)}, "Class 'class 1' of given has 0 graphs"),
        ({"labels": torch.tensor([0] * 6 + [1] * 2)}, "Class 'class 1' of given has 2 graphs"),
        ({"nodes": [], "x": [], "edges": []}, "holds no graph"),
        (
            {"splits": (torch.tensor([0, 2]), torch.tensor([1, 4]), torch.tensor([3, 6]))},
            "The train split of given has no graph of 1 of 2 classes.*'class 1'",
        ),
    ],
)
def test_graphs_that_no_method_could_take_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        opened(replace(raw_graphs(), **changes))


def test_features_that_were_asked_for_must_be_there():
    with pytest.raises(UserError, match=r"set data\.init_args\.features to 'degree'"):
        opened(replace(raw_graphs(), x=[None] * 8), features="given")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "all"}, "data.features must be"),
        ({"degrees": 1}, "data.degrees must be a whole number from 2 on"),
        ({"split_seed": -1}, "data.split_seed"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GivenGraphs(raw_graphs(), **settings)


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_geometric", None)
    with pytest.raises(UserError, match=r"pip install 'ddoq-bench\[graphs\]'"):
        GivenGraphs(raw_graphs())
