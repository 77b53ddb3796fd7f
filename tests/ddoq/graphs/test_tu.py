"""A TU dataset from raw files, as its archive has them."""

import pytest
import torch

from ddoq.errors import UserError
from ddoq.graphs import TUGraphs


@pytest.fixture
def root(tmp_path):
    """Write ten rings of three nodes and ten paths of four, with labels of nodes."""
    folder = tmp_path / "TOY" / "raw"
    folder.mkdir(parents=True)
    edges, owners, labels, kinds, first = [], [], [], [], 1
    for number in range(20):
        ring = number % 2 == 0
        nodes = 3 if ring else 4
        pairs = [(i, i + 1) for i in range(nodes - 1)] + ([(nodes - 1, 0)] if ring else [])
        edges += [(first + a, first + b) for pair in pairs for a, b in (pair, pair[::-1])]
        owners += [number + 1] * nodes
        kinds += [i % 3 for i in range(nodes)]
        labels.append(1 if ring else -1)
        first += nodes
    write = {
        "A": [f"{a}, {b}" for a, b in edges],
        "graph_indicator": owners,
        "graph_labels": labels,
        "node_labels": kinds,
    }
    for name, lines in write.items():
        (folder / f"TOY_{name}.txt").write_text("\n".join(map(str, lines)) + "\n")
    return tmp_path


def test_graphs_labels_and_features(root):
    data = TUGraphs("TOY", root=str(root))
    data.setup()
    assert data.name == "toy"
    assert data.num_features == 3
    assert data.notes == []
    assert [len(split) for split in (data.train, data.val, data.test)] == [16, 2, 2]
    for label, nodes in ((0, 4), (1, 3)):  # the labels -1 and 1
        graphs = data.train.select(data.train.of_class(label))
        assert set(graphs.nodes.tolist()) == {nodes}
        assert torch.equal(graphs.single(0)[0].argmax(dim=1), torch.arange(nodes) % 3)
    assert len(data.train.edges.T) == int(data.train.edge_counts.sum())


def test_without_labels_of_nodes_degrees_stand_in(root):
    (root / "TOY" / "raw" / "TOY_node_labels.txt").unlink()
    data = TUGraphs("TOY", root=str(root), degrees=3)
    data.setup()
    assert data.num_features == 3
    assert "indicators of their degrees" in data.notes[0]


def test_what_cannot_be_had_is_named(tmp_path, monkeypatch):
    from torch_geometric.datasets import TUDataset

    def offline(self):
        raise OSError("no network")

    monkeypatch.setattr(TUDataset, "download", offline)
    with pytest.raises(
        UserError, match=r"NOSUCH can neither be read .* nor downloaded .*no network"
    ):
        TUGraphs("NOSUCH", root=str(tmp_path)).setup()


def test_names_are_no_paths():
    with pytest.raises(UserError, match="the name of a TU dataset"):
        TUGraphs("../TOY")
