"""The benchmark's molecules, from raw files as its archive has them."""

import gzip

import pytest
import torch

from ddoq.errors import UserError
from ddoq.graphs import OGBGraphs
from ddoq.graphs.molecules import atom_indicators


@pytest.fixture
def root(tmp_path):
    """Write six molecules of three atoms in a chain."""
    home = tmp_path / "ogbg_molhiv"
    tables = {
        "raw/edge": ["0,1", "1,2"] * 6,
        "raw/edge-feat": ["0,0,0"] * 12,
        "raw/node-feat": [f"{i % 3},0,0,0,0,0,0,0,1" for i in range(18)],
        "raw/num-node-list": ["3"] * 6,
        "raw/num-edge-list": ["2"] * 6,
        "raw/graph-label": ["0", "1"] * 3,
        "split/scaffold/train": ["4", "5"],
        "split/scaffold/valid": ["0", "1"],
        "split/scaffold/test": ["2", "3"],
    }
    for name, lines in tables.items():
        path = home / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as file:
            file.write("\n".join(lines) + "\n")
    (home / "processed").mkdir()
    (home / "RELEASE_v1.txt").touch()
    return tmp_path


def test_its_own_split_and_metric_and_it_opens_twice(root):
    for _ in range(2):  # what ogb keeps for the second time is no file that torch would open
        data = OGBGraphs(root=str(root))
        data.setup()
    assert data.metric == "roc-auc"
    assert data.name == "ogbg-molhiv"
    assert [len(split) for split in (data.train, data.val, data.test)] == [2, 2, 2]
    assert data.train.labels.tolist() == [0, 1]
    assert data.num_features == 174
    assert data.train.x.sum(dim=1).tolist() == [9.0] * 6
    assert sorted(data.train.single(0)[1].T.tolist()) == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert data.classes.names == ["no", "yes"]


def test_indicators_stand_side_by_side():
    x = atom_indicators(torch.tensor([[2, 1], [0, 0]]), [3, 2])
    assert x.tolist() == [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0]]


def test_other_names_are_refused():
    with pytest.raises(UserError, match="one of the benchmark's molecules"):
        OGBGraphs("ogbn-arxiv")
