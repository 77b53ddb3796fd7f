import networkx as nx
import pytest
import torch
from toy_graphs import small_motifs

from ddoq.errors import UserError
from ddoq.graphs.motifs import MOTIFS, Motifs, motif_graph
from ddoq.seeding import generator_for


def drawn(motif, base="tree", seed=0) -> nx.Graph:
    edges, count = motif_graph(motif, base, (6, 9), generator_for(seed, "test"))
    graph = nx.Graph(edges.T.tolist())
    assert set(graph) == set(range(count))
    return graph


@pytest.mark.parametrize("motif", MOTIFS)
@pytest.mark.parametrize("seed", range(3))
def test_a_tree_with_its_motif(motif, seed):
    graph = drawn(motif, seed=seed)
    assert nx.is_connected(graph)
    wanted = nx.Graph(MOTIFS[motif])
    assert nx.algorithms.isomorphism.GraphMatcher(graph, wanted).subgraph_is_monomorphic()
    cycles = len(wanted.edges) - len(wanted) + 1  # the base and the edge to it add none
    assert len(graph.edges) - len(graph) + 1 == cycles


@pytest.mark.parametrize("motif", MOTIFS)
def test_a_preferential_base(motif):
    graph = drawn(motif, "barabasi-albert")
    assert nx.is_connected(graph)
    base = len(graph) - len(nx.Graph(MOTIFS[motif]))
    assert len(graph.edges) == 3 + 2 * (base - 3) + len(MOTIFS[motif]) + 1


def test_seeds_decide_the_graphs_and_budgets_do_not():
    data, again, other = small_motifs(), small_motifs(), small_motifs(seed=1)
    assert data.fingerprint == again.fingerprint != other.fingerprint
    few, many = small_motifs(per_class=4).load(), small_motifs(per_class=6).load()
    assert all(torch.equal(a, b) for a, b in zip(few.edges[:4], many.edges[:4], strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": 0}, "data.per_class"),
        ({"base": "tre"}, "Did you mean 'tree'"),
        ({"nodes": (2, 5)}, r"not \[2, 5\]"),
        ({"nodes": (9, 5)}, r"in order, not \[9, 5\]"),
        ({"motifs": ("cycle", "hous")}, "Did you mean 'house'"),
        ({"motifs": ("cycle",)}, "two or more"),
        ({"motifs": ("cycle", "cycle")}, "each once"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Motifs(**settings)
