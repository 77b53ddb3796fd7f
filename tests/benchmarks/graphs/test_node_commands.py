"""The commands on the nodes of a graph: rows of the kind of graphs, which say of what they are."""

import json

import pytest

from benchmarks.cli import main
from benchmarks.results.graphs import GRAPHS
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.graphs.nodes.sets import nodes_of
from ddoq.storage.run_folder import SetFolder

COMMUNITIES = {"communities": 2, "per_class": 12, "degree": 4.0, "columns": 3}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Name tiny communities, a method, and two students."""
    content = {
        "data": {"class_path": "Communities", "init_args": COMMUNITIES},
        "model": {"class_path": "NodeRandom", "init_args": {"ipc": 2}},
        "students": [{"arch": name, "kwargs": {"hidden": 8}} for name in ("gcn", "gat")],
        "evaluation": {"graphs": {"epochs": 3, "validate_every": 2}},
        "trainer": {"accelerator": "cpu"},
    }
    path = tmp_path_factory.mktemp("nodes") / "config.yaml"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def output(config, tmp_path_factory):
    """An output in which everything was made once."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["fit", f"--config={config}", f"--output={folder}"]) == 0
    return folder


def test_rows_say_that_they_are_of_nodes(output):
    records, problems = GRAPHS.read_all(output)
    assert problems == []
    assert [record.cell.student for record in records] == ["gat[hidden=8]", "gcn[hidden=8]"]
    (folder,) = (output / "distilled").iterdir()
    nodes = nodes_of(DistilledSet.load(folder))
    for record in records:
        assert (record.cell.dataset, record.cell.method) == ("communities", "node-random")
        assert record.config["data"]["holds"] == "nodes"
        assert record.config["data"]["test_nodes"] == 6
        assert record.test_last * 6 == pytest.approx(round(record.test_last * 6))
        facts = record.distilled
        assert (facts["graphs"], facts["nodes"]) == (1, 4)
        assert facts["edges"] == nodes.edges.shape[1] // 2
        assert facts["stored_bytes"] == nodes.stored_bytes
    assert SetFolder(folder).sheet.read_bytes().startswith(b"\x89PNG")


def test_the_leaderboard_shows_them_in_a_table_of_their_own(output, tmp_path):
    board = tmp_path / "board.md"
    assert main(["leaderboard", str(output), "--output", str(board)]) == 0
    text = board.read_text()
    assert "### communities, 2 nodes per class" in text
    assert "on 6 real test nodes" in text
    assert "missing from this table" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=GraphRandom", "--model.ipc=1"], "distils graphs, but communities holds nodes"),
        (["--recipe.name=hard"], "communities holds nodes, on which --recipe"),
        (['--students=[{"arch": "gcn", "kwargs": {"pooling": "sum"}}]'], "gcn on nodes has no"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options, message, config, tmp_path, capsys):
    assert main(["fit", f"--config={config}", f"--output={tmp_path}", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "distilled").exists()


def test_plan_says_that_it_counts_no_nodes(config, tmp_path, capsys):
    assert main(["plan", f"--config={config}", f"--output={tmp_path}"]) == 2
    assert "communities holds nodes" in capsys.readouterr().err


def test_a_set_of_nodes_is_evaluated_on_nodes_alone(config, output, tmp_path, capsys):
    (folder,) = (output / "distilled").iterdir()
    motifs = ["--data=Motifs", "--data.per_class=10", "--data.nodes=[3, 5]"]
    given = [f"--config={config}", f"--output={tmp_path}", f"--distilled={folder}"]
    assert main(["evaluate", *given, *motifs]) == 2
    assert "holds no graphs" in capsys.readouterr().err
