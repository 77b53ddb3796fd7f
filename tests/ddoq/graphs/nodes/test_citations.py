"""A citation graph from raw files, as its source has them."""

import pickle

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from ddoq.errors import UserError
from ddoq.graphs import CitationGraph

NODES, TRAIN, TEST = 510, 4, 6  # the 500 nodes behind the training ones are for validation


@pytest.fixture
def root(tmp_path):
    """Write papers of two classes in a ring, with three words each; test papers are listed out of order."""
    folder = tmp_path / "Cora" / "raw"
    folder.mkdir(parents=True)
    words = np.eye(3, dtype=np.float32)[np.arange(NODES) % 3]
    words[:, 1] += 1
    labels = np.eye(2, dtype=np.int32)[np.arange(NODES) % 2]
    first = NODES - TEST
    order = np.array([first + 3, first, first + 1, first + 5, first + 4, first + 2])
    parts = {
        "x": csr_matrix(words[:TRAIN]),
        "y": labels[:TRAIN],
        "allx": csr_matrix(words[:first]),
        "ally": labels[:first],
        "tx": csr_matrix(words[order]),
        "ty": labels[order],
        "graph": {i: [(i - 1) % NODES, (i + 1) % NODES] for i in range(NODES)},
    }
    for name, value in parts.items():
        (folder / f"ind.cora.{name}").write_bytes(pickle.dumps(value))
    (folder / "ind.cora.test.index").write_text("".join(f"{i}\n" for i in order))
    return tmp_path


def test_papers_words_and_the_split_of_the_source(root):
    data = CitationGraph("cora", root=str(root))
    data.setup()
    assert data.name == "cora"
    assert data.train.rows.tolist() == [0, 1, 2, 3]
    assert data.val.rows.tolist() == list(range(4, 504))
    assert data.test.rows.tolist() == list(range(504, 510))
    whole = torch.arange(NODES)
    assert torch.equal(data.test.labels, whole[504:] % 2)
    assert data.train.edges.shape[1] == 2 * NODES
    assert torch.equal(data.train.x.sum(dim=1), torch.ones(NODES))
    assert data.train.x[504].tolist() == [0.5, 0.5, 0]
    plain = CitationGraph("cora", root=str(root), normalize=False)
    plain.setup()
    assert plain.train.x[504].tolist() == [1, 1, 0]
    assert plain.fingerprint != data.fingerprint


def test_what_cannot_be_had_is_named(tmp_path, monkeypatch):
    from torch_geometric.datasets import Planetoid

    def offline(self):
        raise OSError("no network")

    monkeypatch.setattr(Planetoid, "download", offline)
    with pytest.raises(
        UserError,
        match=r"cora can neither be read in .*Cora nor downloaded .*no network.*ind\.cora\.x",
    ):
        CitationGraph("cora", root=str(tmp_path)).setup()


def test_damaged_files_are_named(root):
    (root / "Cora" / "raw" / "ind.cora.tx").write_bytes(b"no pickle")
    with pytest.raises(UserError, match="cora can neither be read"):
        CitationGraph("cora", root=str(root)).setup()


def test_other_names_are_refused():
    with pytest.raises(UserError, match="Did you mean 'citeseer'"):
        CitationGraph("citesear")
