import pytest
import torch
import torch.nn.functional as F
from killing import KilledError
from toy_graphs import small_motifs
from two_ranks import distill_on_two_ranks

from baselines.doscond import DosCond
from baselines.doscond.distiller import gradient_gap
from baselines.doscond.graphs import SyntheticGraphs, first_nodes
from ddoq.data import Digits
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.graphs.build import draw_graph_network
from ddoq.objectives.functional import gradients_of
from ddoq.objectives.gradients import DISTANCES
from ddoq.seeding import generator_for

SETTINGS = {"ipc": 2, "iterations": 6, "drop_at": 3, "batch_real": 4, "hidden": 8, "depth": 2}
STARTS = {"lr_features": 0.1, "lr_edges": 2.0}


class Stopping(DosCond):
    """Ends in the middle, when it is told to."""

    stop_at = -1

    def _loss(self, network, synthetic, real, label, step):
        if (label, step) == (1, self.stop_at):
            raise KilledError
        return super()._loss(network, synthetic, real, label, step)


@pytest.fixture(scope="module")
def motifs():
    return small_motifs()


@pytest.fixture
def attached(motifs):
    def make(**changes) -> Stopping:
        method = Stopping(**{**SETTINGS, **STARTS, **changes})
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(motifs)
        return method

    return make


def distill(method: DosCond) -> list[torch.Tensor]:
    shards = [method.distill(item) for item in method.work_items(method.data)]
    return [t for shard in shards for t in (shard.images, *shard.parts.values())]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_gap_of_a_batch_to_itself_is_zero(motifs, distance):
    network = draw_graph_network("gcn", motifs.num_features, 2, "test", seed=0, hidden=8)
    real = motifs.train.select(motifs.train.of_class(1))
    loss = F.cross_entropy(network(real), real.labels)
    gradients = gradients_of(loss, dict(network.named_parameters()), differentiable=False)
    # Rows of weights without a gradient have no cosine, and count as 1 whatever they are compared with.
    least = DISTANCES[distance](gradients, gradients).item()
    assert least == pytest.approx(0, abs=1e-4) or distance == "row-cosine"
    same = gradient_gap(network, real, real.dense(), distance).item()
    assert same == pytest.approx(least, abs=1e-3)
    other = motifs.train.select(motifs.train.of_class(0))
    assert gradient_gap(network, real, other.dense(), distance).item() > least + 1e-4


def test_a_gap_by_hand(motifs):
    network = draw_graph_network("gcn", motifs.num_features, 2, "test", seed=0, hidden=8)
    graphs = [motifs.train.select(motifs.train.of_class(1)[rows]) for rows in ([0, 1], [2, 3, 4])]
    vectors = []
    for batch in graphs:
        loss = F.cross_entropy(network(batch), batch.labels)
        parts = torch.autograd.grad(loss, list(network.parameters()))
        vectors.append(torch.cat([part.flatten() for part in parts]))
    expected = (vectors[0] - vectors[1]).square().sum() / vectors[0].square().sum()
    gap = gradient_gap(network, graphs[0], graphs[1].dense(), "relative-squared-error")
    torch.testing.assert_close(gap.detach(), expected, atol=1e-6, rtol=1e-4)


def test_both_leaves_get_gradients_and_the_rate_falls_once():
    generator = generator_for(0, "test")
    features = torch.randn(2, 4, 3, generator=generator)
    ring = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]).float()
    synthetic = SyntheticGraphs(features, ring.expand(2, 4, 4), 1, (0.1, 0.2), drop_at=1)
    steps = []
    for step in range(2):
        before = synthetic.x.detach().clone(), synthetic.logits.detach().clone()
        batch = synthetic.relaxed(step, generator_for(0, step))
        loss = (batch.adjacency * batch.adjacency).sum() + batch.x.square().sum()
        synthetic.descend(loss, step)
        moved = (synthetic.x - before[0]).abs(), (synthetic.logits - before[1]).abs()
        steps.append([part.max().item() for part in moved])
    # Adam's first step is as long as its rate, and so is that of an optimiser that begins anew.
    assert steps[0] == pytest.approx([0.1, 0.2], rel=1e-3)
    assert steps[1] == pytest.approx([0.01, 0.02], rel=1e-3)


def test_only_what_is_denser_than_at_the_start_costs():
    ring = torch.tensor([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]])[None]
    synthetic = SyntheticGraphs(torch.ones(1, 3, 1), ring, 0, (0.1, 0.1), 9)
    assert synthetic.surplus().item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        synthetic.logits += 1
    assert synthetic.surplus().item() > 0
    with torch.no_grad():
        synthetic.logits -= 3
    assert synthetic.surplus().item() == 0


def test_it_comes_nearer_to_real_gradients(attached, motifs):
    """From nodes that are all alike and have no edges, under networks that no step has drawn."""
    method = attached(ipc=1)
    real = motifs.train.select(motifs.train.of_class(1))
    size = (1, motifs.mean_nodes)
    blank = torch.ones(*size, motifs.num_features), torch.zeros(*size, size[1])
    synthetic = SyntheticGraphs(*blank, 1, (0.05, 0.05), 99)
    networks = [
        draw_graph_network("gcn", motifs.num_features, 2, "test", number, seed=0, hidden=8)
        for number in range(4)
    ]

    def gap() -> float:
        dense = synthetic.discrete().dense()
        gaps = [gradient_gap(net, real, dense, "relative-squared-error") for net in networks]
        return sum(each.item() for each in gaps) / len(gaps)

    before = gap()
    network = draw_graph_network("gcn", motifs.num_features, 2, "steps", seed=0, hidden=8)
    for step in range(60):
        synthetic.descend(method._loss(network, synthetic, real, 1, step), step)
    assert gap() < 0.2 * before


def test_two_ranks_give_the_same_bits(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert one.fingerprint == two.fingerprint


def test_shards_hold_graphs_of_the_mean_size(attached, motifs):
    method = attached()
    for label, item in enumerate(method.work_items(motifs)):
        shard = method.distill(item)
        assert shard.images.shape == (2, motifs.mean_nodes, motifs.num_features)
        assert shard.labels.tolist() == [label] * 2
        assert set(shard.parts["nodes"].tolist()) == {motifs.mean_nodes}
        assert 0 <= shard.info["density_after"] <= 1
    fewer = attached(nodes=4)  # than any real graph has
    assert fewer.distill(fewer.work_items(motifs)[0]).images.shape[1] == 4


def test_seeds_decide_the_bits(attached):
    first = distill(attached())
    assert same(first, distill(attached()))
    assert not same(first, distill(attached(seed=1)))


def test_classes_do_not_depend_on_one_another(attached, motifs):
    method = attached()
    items = method.work_items(motifs)
    both = [method.distill(item).images for item in reversed(items)]
    assert torch.equal(both[0], attached().distill(items[1]).images)


@pytest.mark.parametrize("stop_at", [2, 3, 5])
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


def test_nodes_are_kept_around_the_one_with_most_neighbours():
    star_and_path = [(0, 1), (0, 2), (0, 3), (3, 4), (4, 5)]
    edges = torch.tensor([pair for a, b in star_and_path for pair in ((a, b), (b, a))]).T
    x = torch.zeros(7, 1)  # node 6 has no edge
    assert first_nodes(x, edges, 5).tolist() == [0, 1, 2, 3, 4]
    assert first_nodes(x, edges, 7).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_losses_that_are_not_finite_end_it(attached):
    with pytest.raises(
        DivergedError, match=r"doscond, class-0000 diverged.*lr_features or lr_edges"
    ):
        distill(attached(lr_features=1e30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 9}, "class 'cycle' of motifs has only 8 training graphs"),
        ({"nodes": 1}, "nodes must be at least 2"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"lr_edges": 0.0}, "lr_edges must be above 0"),
        ({"density_weight": -1.0}, "density_weight must be at least 0"),
        ({"distance": "row-cosin"}, "Did you mean 'row-cosine'"),
        ({"pooling": "men"}, "Did you mean 'mean'"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_images_are_refused():
    digits = Digits(limit_per_class=3, test_limit_per_class=2)
    digits.setup()
    with pytest.raises(UserError, match="DosCond distils graphs, but digits holds images"):
        DosCond(ipc=1).attach(digits)
