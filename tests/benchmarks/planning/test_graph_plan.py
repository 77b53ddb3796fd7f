"""Plans of runs on graphs: what is counted, by hand, and what is unknown."""

import pytest
import torch
from toy_graphs import small_motifs

from baselines.graph_selection import GraphHerding, GraphRandom
from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.planning.graphs import GraphJob, plan_graphs
from benchmarks.students.student import Student
from ddoq.errors import UserError
from ddoq.graphs import GraphEmbedding


@pytest.fixture(scope="module")
def motifs():
    return small_motifs()


def planned(data, method, **protocol):
    student = Student("gcn", kwargs={"hidden": 8, "depth": 2})
    how = GraphProtocol(**{"epochs": 10, "batch_size": 4, **protocol})
    job = GraphJob(data, method, [student], 3, how, torch.device("cpu"))
    return {stage.name: stage for stage in plan_graphs(job)}


def test_passes_and_operations_are_those_of_the_protocol(motifs):
    stages = planned(motifs, GraphRandom(3), validate_every=4)
    train, test = (stage for name, stage in stages.items() if "gcn" in name)
    graphs = 3 * motifs.num_classes
    assert (train.passes, train.batch) == (3 * 10 * graphs, 4)
    looks = 3  # after 4, 8 and 10 epochs
    held = len(motifs.val), len(motifs.test)
    assert test.passes == 3 * (looks * sum(held) + held[1])
    assert test.at_most
    nodes = len(motifs.train.x) / len(motifs.train)  # all of them fit into a batch of tests
    layers = 2 * nodes * (motifs.num_features * 8 + 8 * 8) + 2 * 8 * motifs.num_classes
    assert test.flops == pytest.approx(test.passes * layers, abs=1)
    # Every product has two gradients, but that of the first layer has none of its inputs.
    assert 2 * layers < train.flops / train.passes * (nodes / 4) < 12 * layers
    train.probe(2)
    test.probe(2)


def test_what_methods_take_is_said_to_be_unknown(motifs):
    stages = planned(motifs, GraphHerding(2, GraphEmbedding()))
    first, second, *_ = stages.values()
    assert (first.name, second.name) == ("prepare embedding", "distil by graph-herding")
    assert first.flops is second.flops is None
    size = motifs.train.stored_bytes / len(motifs.train)
    assert second.files == {"graphs": round(2 * motifs.num_classes * size)}


def test_a_budget_that_no_class_can_fill_is_refused(motifs):
    with pytest.raises(UserError, match="training graphs: lower"):
        planned(motifs, GraphRandom(9))
