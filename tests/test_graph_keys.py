"""Which argument of what works on graphs changes which key: each is changed, and it is held what follows."""

import inspect
import itertools
from pathlib import Path

import pytest
import torch
from toy_graphs import small_motifs
from toy_nodes import small_communities

from baselines.doscond import DosCond
from baselines.gcond import GCond
from baselines.graph_selection import (
    GraphHerding,
    GraphKCenter,
    GraphRandom,
    NodeHerding,
    NodeKCenter,
    NodeRandom,
)
from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.graphs.running import GraphRun
from benchmarks.students.student import Student
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.graphs import GraphData, GraphDataModule, GraphEmbedding, NodeDataModule
from ddoq.graphs.sets import FORM
from ddoq.storage.fingerprints import hash_config

OTHERS = {
    "distance": "row-cosine",
    "pooling": "sum",
    "nodes": 3,
    "embedding": GraphEmbedding(seed=1),
}
NEEDED = {"ipc": 1, "embedding": GraphEmbedding()}
KINDS = (DosCond, GraphRandom, GraphHerding, GraphKCenter)
NODE_KINDS = (GCond, NodeRandom, NodeHerding, NodeKCenter)
DRAWS_NOTHING = (GraphHerding, GraphKCenter, NodeHerding, NodeKCenter)


@pytest.fixture(scope="module")
def motifs():
    return small_motifs()


@pytest.fixture(scope="module")
def communities():
    return small_communities()


def keys_of(method, data) -> dict[str, str]:
    method.data = data
    for part in method.ingredients.values():
        part._record = {"fingerprint": hash_config(part.settings())}
    context = method.context()
    return {"shard": method.shard_key(context), "set": method.set_name(context)}


def changed(before, after) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_all_methods_are_here():
    kinds = [Distiller]
    for kind in kinds:
        kinds += kind.__subclasses__()
    concrete = {k for k in kinds if issubclass(k.works_on, GraphData) and not inspect.isabstract(k)}
    shipped = {k for k in concrete if k.__module__.startswith("baselines.")}
    assert {k for k in shipped if k.works_on is GraphDataModule} == set(KINDS)
    assert {k for k in shipped if k.works_on is NodeDataModule} == set(NODE_KINDS)


@pytest.mark.parametrize("kind", [*KINDS, *NODE_KINDS])
def test_every_argument_of_methods(kind, motifs, communities):
    data = motifs if kind in KINDS else communities
    names = inspect.signature(kind).parameters
    given = {name: value for name, value in NEEDED.items() if name in names}
    base = keys_of(kind(**given), data)
    for name, parameter in names.items():
        old = given.get(name, parameter.default)
        value = OTHERS[name] if name in OTHERS else old + (1 if isinstance(old, int) else 0.5)
        after = keys_of(kind(**{**given, name: value}), data)
        draws_nothing = name == "seed" and kind in DRAWS_NOTHING
        assert changed(base, after) == ({"set"} if draws_nothing else {"shard", "set"}), name


@pytest.mark.parametrize(
    "changes",
    [
        {"per_class": 9},
        {"base": "barabasi-albert"},
        {"nodes": (4, 5)},
        {"motifs": ("cycle", "house")},
        {"seed": 1},
        {"split_seed": 1},
        {"degrees": 5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_argument_of_motifs(changes, motifs):
    before, after = (keys_of(GraphRandom(1), data) for data in (motifs, small_motifs(**changes)))
    assert changed(before, after) == {"shard", "set"}


def test_what_changes_nothing_of_motifs(motifs):
    same = small_motifs(features="degree")
    assert keys_of(GraphRandom(1), same)["shard"] == keys_of(GraphRandom(1), motifs)["shard"]


@pytest.mark.parametrize(
    "changes",
    [
        {"communities": 3},
        {"per_class": 13},
        {"degree": 3.0},
        {"homophily": 0.6},
        {"columns": 4},
        {"signal": 2.0},
        {"seed": 1},
        {"split_seed": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_argument_of_communities(changes, communities):
    other = small_communities(**changes)
    before, after = (keys_of(NodeRandom(1), data) for data in (communities, other))
    assert changed(before, after) == {"shard", "set"}


def test_every_part_of_a_cell(motifs):
    count = 2
    distilled = DistilledSet(
        torch.ones(count, 2, motifs.num_features),
        torch.arange(count),
        torch.ones(count),
        motifs.classes.names,
        {"method": "toy", "seed": 0},
        parts={
            "nodes": torch.full((count,), 2, dtype=torch.int32),
            "edges": torch.tensor([[[0, 1]]] * count, dtype=torch.int32),
        },
        form=FORM,
    )

    def path(student, seed, **protocol):
        how = GraphProtocol(**protocol)
        run = GraphRun(motifs, distilled, how, [student], [seed], Path(), torch.device("cpu"))
        return run.path(run.places()[0])

    gcn = Student("gcn")
    assert path(gcn, 0) == path(Student("gcn", name="another"), 0)
    paths = [
        path(gcn, 0),
        path(gcn, 1),
        path(Student("gin"), 0),
        path(Student("gcn", lr=0.1), 0),
        path(Student("gcn", kwargs={"depth": 2}), 0),
        path(gcn, 0, epochs=499),
        path(gcn, 0, batch_size=127),
        path(gcn, 0, lr=2e-3),
        path(gcn, 0, validate_every=2),
    ]
    assert all(one != other for one, other in itertools.combinations(paths, 2))
