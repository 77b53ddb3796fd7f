import pytest
import torch
import torch.nn.functional as F
from killing import KilledError
from toy_graphs import small_motifs
from toy_nodes import small_communities
from two_ranks import distill_on_two_ranks

from baselines.doscond import DosCond
from baselines.gcond import GCond
from baselines.gcond.distiller import gradient_gap
from baselines.gcond.graph import SyntheticNodes, draw_pair_edges
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.graphs.build import draw_graph_network
from ddoq.graphs.nodes.sets import nodes_of
from ddoq.objectives.functional import gradients_of
from ddoq.objectives.gradients import DISTANCES

SETTINGS = {
    "ipc": 2,
    "iterations": 6,
    "feature_steps": 2,
    "drop_at": 4,
    "batch_real": 4,
    "hidden": 8,
    "edge_hidden": 4,
    "lr_features": 0.1,
}


class Stopping(GCond):
    """Ends in the middle, when it is told to."""

    stop_at = -1

    def _loss(self, network, synthetic, real, step):
        if step == self.stop_at:
            raise KilledError
        return super()._loss(network, synthetic, real, step)


@pytest.fixture(scope="module")
def communities():
    return small_communities()


@pytest.fixture
def attached(communities):
    def make(**changes) -> Stopping:
        method = Stopping(**{**SETTINGS, **changes})
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(communities)
        return method

    return make


def distill(method: GCond) -> list[torch.Tensor]:
    (item,) = method.work_items(method.data)
    shard = method.distill(item)
    return [shard.images, *shard.parts.values()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def network_on(data) -> torch.nn.Module:
    return draw_graph_network("gcn", data.num_features, 2, "test", seed=0, hidden=8, task="nodes")


class Mirrored(SyntheticNodes):
    """The training nodes themselves, with edges of the real graph."""

    def adjacency(self):
        return self.real

    @classmethod
    def of(cls, nodes):
        edges = draw_pair_edges(nodes.x.shape[1], 4, 2, 2, 0)
        made = cls(nodes.x, nodes.labels, edges, (0.1, 0.1), 9)
        made.real = nodes.adjacency()
        return made


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gap_of_a_graph_to_itself_is_zero(communities, distance):
    network = network_on(communities)
    nodes = communities.train.induced(torch.arange(len(communities.train)))
    gap = gradient_gap(network, nodes, Mirrored.of(nodes), [1.0, 1.0], distance).item()
    # Rows of weights without a gradient have no cosine, and count as 1 whatever they are compared with.
    assert gap == pytest.approx(0, abs=1e-4) or distance == "row-cosine"
    moved = Mirrored.of(nodes)
    with torch.no_grad():
        moved.x += 1
    assert gradient_gap(network, nodes, moved, [1.0, 1.0], distance).item() > gap + 1e-3


def test_a_gap_by_hand(communities):
    network = network_on(communities)
    graph = Mirrored.of(communities.train.induced(torch.tensor([0, 1, 8, 9])))
    assert graph.labels.tolist() == [0, 0, 1, 1]
    synthetic = communities.train.induced(torch.tensor([0, 1, 8, 9]))
    expected = 0.0
    for label, share in ((0, 0.5), (1, 1.0)):
        vectors = []
        for nodes in (communities.train, synthetic):
            part = nodes.select(nodes.of_class(label))
            loss = F.cross_entropy(network(part), part.labels)
            parts = gradients_of(loss, dict(network.named_parameters()), differentiable=False)
            vectors.append(torch.cat([each.flatten() for each in parts.values()]))
        expected += share * (vectors[0] - vectors[1]).square().sum().item()
    gap = gradient_gap(network, communities.train, graph, [0.5, 1.0], "squared-error")
    assert gap.item() == pytest.approx(expected, rel=1e-3)


def test_classes_weigh_as_many_nodes_as_they_have(attached, communities, monkeypatch):
    given = []

    def watched(network, real, synthetic, shares, distance):
        given.append(shares)
        return synthetic.adjacency().sum()

    monkeypatch.setattr("baselines.gcond.distiller.gradient_gap", watched)
    method = attached(iterations=1)
    method._loss(network_on(communities), method._start(), communities.train, 0)
    fewer = communities.train.select(torch.arange(len(communities.train) - 3))
    method._loss(network_on(communities), method._start(), fewer, 0)
    assert given == [[1.0, 1.0], [1.0, 0.5]]


def test_features_and_edges_take_turns(attached):
    method = attached()
    assert [method._turn(step) for step in range(6)] == ["x", "x", "edges"] * 2


def test_it_comes_nearer_to_real_gradients(attached, communities):
    """From noise, under networks that no step has drawn."""
    method = attached(ipc=1, batch_real=256)
    begun = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    edges = draw_pair_edges(3, 4, 2, 2, 0)
    graph = SyntheticNodes(begun, torch.tensor([0, 1]), edges, (0.05, 0.05), 99)
    real = communities.train
    tests = [
        draw_graph_network("gcn", 3, 2, "test", number, seed=0, hidden=8, task="nodes")
        for number in range(4)
    ]

    def gap() -> float:
        gaps = [gradient_gap(net, real, graph, [1, 1], "relative-squared-error") for net in tests]
        return sum(each.item() for each in gaps) / len(gaps)

    before, network = gap(), network_on(communities)
    for step in range(60):
        graph.descend(method._loss(network, graph, real, step), method._turn(step), step)
    assert gap() < 0.3 * before


def test_one_graph_of_nodes_of_all_classes(attached, trainer, tmp_path):
    distilled, _ = attached(threshold=0.0).run(trainer, tmp_path)
    nodes = nodes_of(distilled)
    assert distilled.labels.tolist() == [0, 0, 1, 1]
    assert nodes.edges.shape[1] == 4 * 3
    assert distilled.ipc == 2
    assert distilled.metadata["cost"]["work_items"] == 1
    facts = distilled.metadata["statistics"]
    assert facts["density"] == 1
    assert facts["mean_weight"] == pytest.approx(nodes.weights.mean().item())
    fewer, _ = attached(threshold=0.999).run(trainer, tmp_path)
    assert nodes_of(fewer).edges.shape[1] == 0


def test_two_ranks_give_the_same_bits(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert one.fingerprint == two.fingerprint


def test_seeds_decide_the_bits(attached):
    first = distill(attached())
    assert same(first, distill(attached()))
    assert not same(first, distill(attached(seed=1)))


@pytest.mark.parametrize("stop_at", [3, 5])
def test_a_killed_run_ends_with_the_same_bits(attached, trainer, tmp_path, stop_at):
    whole, _ = attached().run(trainer, tmp_path / "whole")
    killed = attached()
    killed.stop_at = stop_at
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    assert list((tmp_path / "killed").rglob("*.checkpoint"))
    resumed, _ = attached().run(trainer, tmp_path / "killed")
    assert resumed.fingerprint == whole.fingerprint
    assert not list((tmp_path / "killed").rglob("*.checkpoint"))


def test_losses_that_are_not_finite_end_it(attached):
    with pytest.raises(DivergedError, match=r"gcond, graph diverged.*lr_features or lr_edges"):
        distill(attached(lr_features=1e30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 7}, "class 'community 0' of communities has only 6 training nodes"),
        ({"ipc": 0}, "ipc must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"feature_steps": 0}, "feature_steps must be at least 1"),
        ({"edge_depth": 1}, "edge_depth must be at least 2"),
        ({"lr_edges": 0.0}, "lr_edges must be above 0"),
        ({"threshold": 1.0}, r"threshold must be in \[0, 1\)"),
        ({"distance": "row-cosin"}, "Did you mean 'row-cosine'"),
        ({"depth": 0}, "gcn: depth must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_graphs_and_nodes_are_told_apart(communities):
    with pytest.raises(UserError, match="GCond distils nodes, but motifs holds graphs"):
        GCond(ipc=1).attach(small_motifs())
    with pytest.raises(UserError, match="DosCond distils graphs, but communities holds nodes"):
        DosCond(ipc=1).attach(communities)
