import pytest
import torch
from toy_graphs import small_motifs
from toy_nodes import small_communities

from baselines.dm import DM
from baselines.graph_selection import (
    GraphHerding,
    GraphKCenter,
    GraphRandom,
    NodeHerding,
    NodeKCenter,
    NodeRandom,
)
from ddoq.errors import UserError
from ddoq.graphs import GraphEmbedding
from ddoq.graphs.nodes.sets import nodes_of
from ddoq.graphs.sets import graphs_of
from ddoq.selection import herding, k_center

CHOOSERS = {GraphHerding: herding, GraphKCenter: k_center}
NODE_CHOOSERS = {NodeHerding: herding, NodeKCenter: k_center}


@pytest.fixture(scope="module")
def motifs():
    return small_motifs()


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One cache, so that both methods share their embedding."""
    return tmp_path_factory.mktemp("runs")


def embedding(**changes) -> GraphEmbedding:
    return GraphEmbedding(**{"epochs": 2, **changes})


def test_random_graphs_are_real_ones_and_budgets_nest(motifs, trainer, tmp_path):
    sets = {}
    for ipc in (2, 5):
        method = GraphRandom(ipc)
        method.attach(motifs)
        sets[ipc], _ = method.run(trainer, tmp_path)
        graphs = graphs_of(sets[ipc])
        assert graphs.labels.tolist() == [0] * ipc + [1] * ipc
        indices = [method.distill(item).info["indices"] for item in method.work_items(motifs)]
        chosen = motifs.train.select(torch.tensor([i for each in indices for i in each]))
        assert torch.equal(graphs.x, chosen.x)
        assert graphs.edge_counts.tolist() == chosen.edge_counts.tolist()
    assert torch.equal(sets[2].images[:2], sets[5].images[:2])
    other = GraphRandom(2, seed=1)
    other.attach(motifs)
    assert other.run(trainer, tmp_path)[0].fingerprint != sets[2].fingerprint


@pytest.mark.parametrize("kind", CHOOSERS)
def test_graphs_are_chosen_by_their_embeddings(kind, motifs, trainer, output):
    method = kind(3, embedding())
    method.attach(motifs)
    distilled, _ = method.run(trainer, output)
    rows = []
    for label in (0, 1):
        positions = motifs.train.of_class(label)
        seen = method.embedding.embed(motifs.train.select(positions))
        rows += positions[CHOOSERS[kind](seen, 3)].tolist()
    assert torch.equal(graphs_of(distilled).x, motifs.train.select(torch.tensor(rows)).x)
    facts = distilled.metadata["ingredients"]["embedding"]
    assert set(facts) == {"seconds", "validation"}
    assert len(list((output / "ingredients").glob("GraphEmbedding-*"))) == 1


def test_seeds_share_shards_and_an_embedding_decides_them(motifs):
    first, other = GraphHerding(1, embedding()), GraphHerding(1, embedding(), seed=1)
    assert first.shard_settings() == other.shard_settings()
    assert first.settings() != other.settings()
    assert GraphHerding(1, embedding(seed=1)).shard_settings() != first.shard_settings()


def test_an_image_method_is_refused(motifs):
    with pytest.raises(UserError, match="DM distils images, but motifs holds graphs"):
        DM(ipc=1).attach(motifs)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda: GraphRandom(9), "only 8 training graphs"),
        (lambda: GraphRandom(0), "ipc must be at least 1"),
        (lambda: GraphHerding(1, embedding(epochs=0)), "embedding.epochs must be at least 1"),
        (lambda: GraphKCenter(1, embedding(arch="gcm")), "Did you mean 'gcn'"),
    ],
)
def test_wrong_settings_are_refused(motifs, method, message):
    with pytest.raises(UserError, match=message):
        method().attach(motifs)


@pytest.fixture(scope="module")
def communities():
    return small_communities()


def test_random_nodes_keep_the_edges_between_them_and_budgets_nest(communities, trainer, tmp_path):
    sets = {}
    for ipc in (2, 5):
        method = NodeRandom(ipc)
        method.attach(communities)
        sets[ipc], _ = method.run(trainer, tmp_path)
        (item,) = method.work_items(communities)
        chosen = torch.tensor(method.distill(item).info["indices"])
        nodes = nodes_of(sets[ipc])
        assert nodes.labels.tolist() == [0] * ipc + [1] * ipc
        assert torch.equal(nodes.adjacency(), communities.train.induced(chosen).adjacency())
        assert torch.equal(nodes.x, communities.train.x[communities.train.rows[chosen]])
    assert nodes.edges.numel()
    assert torch.equal(sets[2].images[:2], sets[5].images[:2])
    with pytest.raises(UserError, match="only 6 training nodes"):
        NodeRandom(7).attach(communities)
    with pytest.raises(UserError, match="NodeRandom distils nodes, but motifs holds graphs"):
        NodeRandom(1).attach(small_motifs())


@pytest.mark.parametrize("kind", NODE_CHOOSERS)
def test_nodes_are_chosen_by_their_embeddings(kind, communities, trainer, output):
    method = kind(3, embedding())
    method.attach(communities)
    distilled, _ = method.run(trainer, output)
    rows = []
    for label in (0, 1):
        positions = communities.train.of_class(label)
        seen = method.embedding.embed(communities.train.select(positions))
        rows += positions[NODE_CHOOSERS[kind](seen, 3)].tolist()
    expected = communities.train.induced(torch.tensor(rows))
    assert torch.equal(nodes_of(distilled).x, expected.x)
