"""Students of graphs: scores of the last and of the best epoch, and kills."""

import pytest
import torch
from killing import KilledError
from toy_graphs import small_motifs

from baselines.graph_selection import GraphRandom
from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.graphs.running import GraphRun
from benchmarks.results import running
from benchmarks.students.student import Student
from ddoq.distillation.merging import merge_shards
from ddoq.graphs.sets import FORM
from ddoq.storage.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def motifs():
    return small_motifs()


@pytest.fixture
def run_in(motifs):
    """Make a run of one student; results lie in a folder."""
    method = GraphRandom(3)
    method.attach(motifs)
    shards = [method.distill(item) for item in method.work_items(motifs)]
    record = {"method": "graph-random", "ipc": 3, "seed": 0}
    names = motifs.classes.names
    distilled = merge_shards(shards, [torch.ones(3)] * 2, names, record, FORM)

    def make(folder, epochs=6, **protocol) -> GraphRun:
        how = GraphProtocol(**{"epochs": epochs, "batch_size": 4, "lr": 0.05, **protocol})
        student = Student("gcn", kwargs={"hidden": 8})
        return GraphRun(motifs, distilled, how, [student], [0], folder, torch.device("cpu"))

    return make


def only(run: GraphRun):
    assert run.run() == []
    (record,) = run.records()
    return record


def test_the_best_epoch_is_that_of_validation_graphs(run_in, tmp_path):
    record = only(run_in(tmp_path))
    looks = {}
    for epochs in range(1, 7):  # the rate falls halfway: the same training only up to there
        shorter = only(run_in(tmp_path, epochs=epochs))
        looks[epochs] = (shorter.val_best, shorter.test_last)
    assert record.test_last == looks[6][1]
    assert record.val_best >= 0.5
    assert 1 <= record.best_epoch <= 6


def test_it_looks_as_often_as_it_shall(run_in, tmp_path, monkeypatch):
    looked = []
    original = GraphRun._score

    def watched(self, network, split):
        looked.append(split)
        return original(self, network, split)

    monkeypatch.setattr(GraphRun, "_score", watched)
    only(run_in(tmp_path, epochs=5, validate_every=2))
    assert looked.count("val") == 3  # after epochs 2, 4 and 5


def test_a_killed_student_ends_with_the_same_numbers(run_in, tmp_path, monkeypatch):
    whole = only(run_in(tmp_path / "whole"))
    monkeypatch.setattr(running, "Checkpoint", lambda path, key: Checkpoint(path, key, 0))
    killed = run_in(tmp_path / "killed")
    original = killed._look

    def stop(network, epoch, best):
        if epoch == 4:
            raise KilledError
        original(network, epoch, best)

    killed._look = stop
    with pytest.raises(KilledError):
        killed.run()
    assert list((tmp_path / "killed" / "graphs").glob("*.checkpoint"))
    resumed = only(run_in(tmp_path / "killed"))
    for name in ("test_last", "test_best", "val_best", "best_epoch", "train_loss", "config"):
        assert getattr(resumed, name) == getattr(whole, name), name
    assert not list((tmp_path / "killed" / "graphs").glob("*.checkpoint"))
