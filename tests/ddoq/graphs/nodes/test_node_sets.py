import pytest
import torch
from toy_nodes import random_nodes

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.merging import merge_shards
from ddoq.errors import UserError
from ddoq.graphs.nodes.sets import FORM, node_shard, nodes_of
from ddoq.graphs.sets import graphs_of


def ordered():
    nodes = random_nodes()
    return nodes.induced(torch.argsort(nodes.labels, stable=True))


@pytest.fixture
def stored() -> DistilledSet:
    shard = node_shard(ordered(), {}, {})
    # Weights have mean 1 within a class.
    return merge_shards([shard], [torch.ones(7)], ["even", "odd"], {}, FORM)


def test_the_graph_comes_back_as_it_was(stored, tmp_path):
    stored.save(tmp_path / "set")
    read, nodes = nodes_of(DistilledSet.load(tmp_path / "set")), ordered()
    assert torch.equal(read.x, nodes.x)
    assert torch.equal(read.adjacency(), nodes.adjacency())
    assert read.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert read.rows.tolist() == list(range(7))


def test_they_are_neither_images_nor_graphs(stored):
    with pytest.raises(UserError, match="holds the nodes of a graph, not images"):
        stored.decode()
    with pytest.raises(UserError, match="holds no graphs"):
        graphs_of(stored)
    images = DistilledSet(
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([0]), torch.ones(1), ["a"]
    )
    with pytest.raises(UserError, match="holds no nodes of a graph"):
        nodes_of(images)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images", lambda t: t.double(), "features must be float32"),
        ("images", lambda t: t * torch.nan, "features must be finite"),
        ("adjacency", lambda t: t.double(), r"adjacency must be float32 \(n, n\)"),
        ("adjacency", lambda t: t[:, :3], r"adjacency must be float32 \(n, n\)"),
        ("adjacency", lambda t: t * torch.inf, "adjacency must be finite"),
        ("adjacency", lambda t: -t, "adjacency must be at least 0"),
        ("adjacency", lambda t: t + torch.eye(7), "0 on its diagonal"),
        ("adjacency", lambda t: t.triu(), "adjacency must be symmetric"),
        ("weights", lambda t: t, r"needs the part adjacency, not \['weights'\]"),
    ],
)
def test_other_tensors_are_refused(stored, name, change, message):
    images, adjacency = stored.images, stored.parts["adjacency"]
    if name == "images":
        images = change(images)
    else:
        adjacency = change(adjacency)
    parts = {"adjacency" if name == "images" else name: adjacency}
    with pytest.raises(UserError, match=message):
        DistilledSet(
            images, stored.labels, stored.weights, ["even", "odd"], {}, parts=parts, form=FORM
        )
