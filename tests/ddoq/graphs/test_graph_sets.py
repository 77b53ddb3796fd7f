import pytest
import torch
from toy_graphs import random_graphs

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.merging import merge_shards
from ddoq.errors import UserError
from ddoq.graphs.sets import FORM, graph_shard, graphs_of


@pytest.fixture
def stored() -> DistilledSet:
    """Four graphs of two classes, of several sizes, from a shard a class."""
    graphs = random_graphs()
    shards = [graph_shard(graphs.select(graphs.of_class(label)), 7, 12, {}, {}) for label in (0, 1)]
    return merge_shards(shards, [torch.ones(2)] * 2, ["a", "b"], {}, FORM)


def test_graphs_come_back_as_they_were(stored, tmp_path):
    stored.save(tmp_path / "set")
    read = graphs_of(DistilledSet.load(tmp_path / "set"))
    graphs = random_graphs()
    for number, position in enumerate([0, 2, 1, 3]):
        x, edges = graphs.single(position)
        ours, pairs = read.single(number)
        assert torch.equal(ours, x)
        assert sorted(pairs.T.tolist()) == sorted(edges.T.tolist())
    assert read.labels.tolist() == [0, 0, 1, 1]


def test_they_are_no_images(stored):
    with pytest.raises(UserError, match="holds graphs, not images"):
        stored.decode()
    with pytest.raises(UserError, match="cannot be rounded"):
        stored.rounded()
    images = DistilledSet(
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([0]), torch.ones(1), ["a"]
    )
    with pytest.raises(UserError, match="holds no graphs"):
        graphs_of(images)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images", lambda t: t.double(), "features must be float32"),
        ("images", lambda t: t * torch.nan, "features must be finite"),
        ("nodes", lambda t: t.long(), "nodes must be int32"),
        ("nodes", lambda t: t + 7, r"nodes must lie in 1..7"),
        ("edges", lambda t: t[..., :1], r"edges must be int32 \(n, e, 2\)"),
        ("edges", lambda t: t + 7, "edges must join nodes that are there"),
    ],
)
def test_other_tensors_are_refused(stored, name, change, message):
    images, parts = stored.images, dict(stored.parts)
    if name == "images":
        images = change(images)
    else:
        parts[name] = change(parts[name])
    with pytest.raises(UserError, match=message):
        DistilledSet(images, stored.labels, stored.weights, ["a", "b"], {}, parts=parts, form=FORM)
