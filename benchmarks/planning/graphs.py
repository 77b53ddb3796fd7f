"""What a run on graphs will take before anything runs: its stages, counted on real graphs of the dataset."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.students.student import Student
from ddoq.costs.flops import count_flops
from ddoq.costs.workload import Stage
from ddoq.distillation.distiller import Distiller
from ddoq.graphs.batches import Graphs
from ddoq.graphs.build import draw_graph_network
from ddoq.graphs.data import GraphDataModule

NOTES = (
    "FLOPs: products of matrices, two a multiply-add, of as many real training graphs as a batch holds; sums over neighbours are not counted.",
    "Sums take bounds (at most) as they are. The bytes of a set are those of graphs of mean size.",
    "Stages that are cached already will not run again. Every student and seed has one result file.",
)
_TEST_BATCH = 1024  # graphs that are looked at together; see `ddoq.graphs.training.answers`


@dataclass(frozen=True)
class GraphJob:
    """What is planned.

    Attributes:
        data: The dataset, set up.
        distiller: The method.
        students: Who learns.
        seeds: How many times each.
        protocol: How they learn.
        device: Where batches are run, to be counted or measured.
    """

    data: GraphDataModule
    distiller: Distiller[Any]
    students: Sequence[Student]
    seeds: int
    protocol: GraphProtocol
    device: torch.device


def plan_graphs(job: GraphJob) -> list[Stage]:
    """List the stages of a whole run, in their order.

    Args:
        job: What is planned.

    Returns:
        The stages; what methods for graphs and their ingredients take is unknown.

    Raises:
        UserError: If the method cannot distil the dataset.
    """
    method, data = job.distiller, job.data
    method.check(data)
    stages = [
        Stage.unknown(f"prepare {name}", f"{type(part).__name__} counts no operations on graphs")
        for name, part in method.ingredients.items()
    ]
    count = method.ipc * data.num_classes
    mean = data.train.stored_bytes / len(data.train)
    note = f"{type(method).__name__} counts no operations on graphs"
    files = {"graphs": round(count * mean)}
    stages.append(Stage.unknown(f"distil by {method.method}", note, files))
    for student in job.students:
        stages += _student(job, student, count)
    return stages


def _student(job: GraphJob, student: Student, count: int) -> list[Stage]:
    """Describe training and tests of one student, all seeds together."""
    data, protocol = job.data, job.protocol
    network = draw_graph_network(
        student.arch, data.num_features, data.num_classes, "plan", seed=0, **student.kwargs
    ).to(job.device)
    batch, tested = min(protocol.batch_size, count), len(data.val) + len(data.test)
    looks = math.ceil(protocol.epochs / protocol.validate_every)
    training = job.seeds * protocol.epochs * count
    testing = job.seeds * (looks * tested + len(data.test))
    some = _spread(data.train, batch).to(job.device)
    many = _spread(data.train, _TEST_BATCH).to(job.device)
    return [
        Stage(
            f"train {student.label}",
            student.arch,
            training,
            round(training * count_flops(lambda: _learn(network, some)) / len(some)),
            batch=batch,
            note=f"{protocol.epochs:,} epochs, {_seeds(job.seeds)}",
            probe=lambda number: _learn(network, _repeated(some, number)),
        ),
        Stage(
            f"test {student.label}",
            student.arch,
            testing,
            round(testing * count_flops(lambda: _look(network, many)) / len(many)),
            batch=min(_TEST_BATCH, tested),
            at_most=True,
            note=f"{looks:,} looks at validation graphs; test graphs where these are better",
            probe=lambda number: _look(network, _repeated(many, number)),
        ),
    ]


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _spread(graphs: Graphs, count: int) -> Graphs:
    """Take graphs from all over a split, at most ``count``."""
    positions = torch.linspace(0, len(graphs) - 1, min(count, len(graphs)))
    return graphs.select(positions.round().long())


def _repeated(graphs: Graphs, count: int) -> Graphs:
    positions = torch.arange(count, device=graphs.x.device) % len(graphs)
    return graphs.select(positions)


def _learn(network: nn.Module, graphs: Graphs) -> None:
    network.train().zero_grad()
    F.cross_entropy(network(graphs), graphs.labels).backward()


def _look(network: nn.Module, graphs: Graphs) -> None:
    with torch.no_grad():
        network.eval()(graphs)
