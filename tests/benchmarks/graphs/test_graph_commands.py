"""The commands on graphs: from a method to rows and tables, and what they refuse."""

import json
import shutil

import pytest
from sealed_records import transfer_record, write_records

from benchmarks.cli import main
from benchmarks.results.files import read_results
from benchmarks.results.graphs import GRAPHS
from benchmarks.run import graph_bench, sealed_cells
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.graphs.sets import graphs_of
from ddoq.storage.run_folder import RunFolder, SetFolder

PROTOCOL = {"epochs": 3, "batch_size": 4, "validate_every": 2}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Name tiny motifs, a method, and two students."""
    motifs = {"per_class": 10, "nodes": [3, 5], "motifs": ["cycle", "star"]}
    content = {
        "data": {"class_path": "Motifs", "init_args": motifs},
        "model": {"class_path": "GraphRandom", "init_args": {"ipc": 2}},
        "students": [{"arch": name, "kwargs": {"hidden": 8}} for name in ("gcn", "gat")],
        "evaluation": {"graphs": PROTOCOL},
        "trainer": {"accelerator": "cpu"},
        "wandb": {"mode": "disabled"},
    }
    path = tmp_path_factory.mktemp("graphs") / "config.yaml"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def output(config, tmp_path_factory):
    """An output in which everything was made once."""
    folder = tmp_path_factory.mktemp("runs")
    report = folder / "report.json"
    assert main(["fit", f"--config={config}", f"--output={folder}", f"--report={report}"]) == 0
    return folder


def run(command, config, output, *more) -> int:
    return main([command, f"--config={config}", f"--output={output}", *more])


def distilled_folder(output):
    (folder,) = (output / "distilled").iterdir()
    return folder


def test_rows_are_of_a_kind_of_their_own(output):
    records, problems = GRAPHS.read_all(output)
    assert problems == []
    assert read_results(output) == ([], [])
    assert [record.cell.student for record in records] == ["gat[hidden=8]", "gcn[hidden=8]"]
    for record in records:
        cell = record.cell
        assert (cell.dataset, cell.method, cell.ipc, cell.seed) == ("motifs", "graph-random", 2, 0)
        assert record.metric == "accuracy"
        assert record.best_epoch in (2, 3)
        assert 0 <= record.test_last <= 1
        assert record.config["protocol"] == {**PROTOCOL, "lr": 1e-3}
        stored = graphs_of(DistilledSet.load(distilled_folder(output)))
        assert record.distilled["stored_bytes"] == stored.stored_bytes
        assert record.distilled["graphs"] == 4
    listed = json.loads((output / "report.json").read_text())
    assert sorted(listed) == sorted(
        str(RunFolder(output).graph_result(record.config_hash)) for record in records
    )


def test_a_picture_and_the_configuration_lie_beside_the_set(output):
    folder = SetFolder(distilled_folder(output))
    assert folder.sheet.read_bytes().startswith(b"\x89PNG")
    assert json.loads(folder.config.read_text())["model"]["class_path"].endswith("GraphRandom")


@pytest.fixture
def logged(monkeypatch):
    """Collect what W&B would get."""
    got = []
    monkeypatch.setattr(
        graph_bench, "log_distilled_set", lambda _, folder, *rest: got.append(folder)
    )
    monkeypatch.setattr(sealed_cells, "log_record", lambda *given: got.append(given[-1]))
    return got


def test_a_second_run_reuses_everything(config, output, capsys, logged):
    before = {path: path.stat().st_mtime_ns for path in (output / "graphs").iterdir()}
    assert run("fit", config, output) == 0
    printed = capsys.readouterr().out
    assert "graph-random on motifs, 2 graphs per class, accuracy on real test graphs" in printed
    assert {path: path.stat().st_mtime_ns for path in (output / "graphs").iterdir()} == before
    assert logged == [distilled_folder(output)]  # the set, of which W&B may know already


def test_a_given_set_is_evaluated(config, output, tmp_path, logged):
    given = f"--distilled={distilled_folder(output)}"
    assert run("evaluate", config, tmp_path / "runs", given) == 0
    first, second = (GRAPHS.read_all(folder)[0] for folder in (output, tmp_path / "runs"))
    assert [r.test_last for r in first] == [r.test_last for r in second]
    assert [r.config_hash for r in first] == [r.config_hash for r in second]
    assert {r.config_hash for r in logged} == {r.config_hash for r in second}


def test_the_leaderboard_shows_them(output, tmp_path):
    for ending in ("md", "html"):
        assert (
            main(["leaderboard", str(output), "--output", str(tmp_path / f"board.{ending}")]) == 0
        )
    text = (tmp_path / "board.md").read_text()
    assert "### motifs, 2 graphs per class" in text
    assert "| graph-random" in text
    assert 'id="graphs"' in (tmp_path / "board.html").read_text()


@pytest.mark.parametrize("command", ["teacher", "prior", "check", "decoding"])
def test_commands_for_images_say_so(command, config, tmp_path, capsys):
    assert run(command, config, tmp_path) == 2
    assert "motifs holds graphs" in capsys.readouterr().err


def test_a_plan_lists_the_stages_of_every_budget(config, tmp_path, capsys):
    assert run("plan", config, tmp_path, "--ipc=1,2", "--seeds=[0, 1]", "--probe=true") == 0
    text = capsys.readouterr().out
    assert "### graph-random on motifs\n\n16 training graphs of 2 classes" in text
    assert text.index("#### 1 graphs per class") < text.index("#### 2 graphs per class")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| train")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [(row[0], row[2], row[3]) for row in cells] == [
        *(("train gcn[hidden=8]", "12", "2"), ("train gat[hidden=8]", "12", "2")),
        *(("train gcn[hidden=8]", "24", "4"), ("train gat[hidden=8]", "24", "4")),
    ]
    assert "graphs/s here" in text
    assert "images" not in text.replace("reading of images", "")
    assert not (tmp_path / "distilled").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes=2"], "leave out --classes"),
        (["--ipc=9"], "has only 8 training graphs"),
        (['--students=[{"arch": "convnet3"}]'], "no network on graphs called 'convnet3'"),
    ],
)
def test_a_plan_refuses_what_a_run_would(options, message, config, tmp_path, capsys):
    assert run("plan", config, tmp_path, *options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=DM", "--model.ipc=1"], "DM distils images, but motifs holds graphs"),
        (["--model.init_args.ipc=9"], "has only 8 training graphs"),
        (['--students=[{"arch": "convnet3"}]'], "no network on graphs called 'convnet3'"),
        (['--students=[{"arch": "gcn", "stem": "small"}]'], "have no stem"),
        (["--evaluation.graphs.epochs=0"], "evaluation.graphs.epochs must be at least 1"),
        (["--evaluation.set_precision=uint8"], "leave out evaluation.set_precision"),
        (["--students=[]"], "No student is configured"),
        (
            ["--recipe.name=hard", "--teacher=TrainedTeacher"],
            "motifs holds graphs, on which --recipe and --teacher have no effect",
        ),
        (["--trainer.precision=bf16-mixed"], "on which --trainer.precision has no effect"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options, message, config, tmp_path, capsys):
    assert run("fit", config, tmp_path, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "distilled").exists()


def test_sets_of_other_data_are_refused(config, output, tmp_path, capsys):
    given = f"--distilled={distilled_folder(output)}"
    other = "--data.init_args.degrees=5"
    assert run("evaluate", config, tmp_path, given, other) == 2
    assert "have 10 features, those of motifs 5" in capsys.readouterr().err
    other = '--data.init_args.motifs=["star", "cycle"]'
    assert run("evaluate", config, tmp_path, given, other) == 2
    assert "was made for other classes" in capsys.readouterr().err


def test_graph_methods_refuse_images(config, tmp_path, capsys):
    images = ["--data=Digits", "--data.limit_per_class=4", "--data.test_limit_per_class=2"]
    students = '--students=[{"arch": "convnet2-w8"}]'
    assert run("fit", config, tmp_path, *images, students, "--recipe.name=hard") == 2
    assert "GraphRandom distils graphs, but digits holds images" in capsys.readouterr().err


def table(text: str) -> dict[str, str]:
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): row[-1].strip() for row in rows[2:]}


def test_a_result_comes_out_again(output, tmp_path, capsys):
    path = min((output / "graphs").glob("graphs-*.json"))
    assert main(["verify", str(path)]) == 0
    told = table(capsys.readouterr().out)
    assert set(told.values()) == {"same"}
    assert {"dataset", "method", "protocol", "distilled set", "student", "test_last"} <= set(told)
    forged = GRAPHS.read(path)
    score = forged.test_last
    vars(forged).update(test_last=score - 0.5 if score >= 0.5 else score + 0.5)
    copy = tmp_path / path.name
    GRAPHS.write(copy, forged)
    assert main(["verify", str(copy)]) == 1
    told = table(capsys.readouterr().out)
    assert [name for name, verdict in told.items() if verdict != "same"] == ["test_last"]


def test_another_protocol_is_noticed_before_anything_is_trained(output, tmp_path, capsys):
    path = min((output / "graphs").glob("graphs-*.json"))
    arguments = ["verify", str(path), "--output", str(tmp_path / "again")]
    assert main([*arguments, "--evaluation.graphs.epochs=2", "--model.init_args.seed=1"]) == 1
    told = table(capsys.readouterr().out)
    wrong = [name for name, verdict in told.items() if verdict == "differs"]
    assert wrong == ["method: seed", "protocol: epochs"]
    assert not (tmp_path / "again" / "distilled").exists()


def test_results_without_a_configuration_need_one(output, tmp_path, capsys):
    older = GRAPHS.read(min((output / "graphs").glob("graphs-*.json")))
    vars(older).update(run=None)
    path = GRAPHS.path(RunFolder(tmp_path), older.config_hash)
    GRAPHS.write(path, older)
    values = json.loads(path.read_text())
    del values["run"], values["checksum"]
    path.write_text(json.dumps(values))
    assert GRAPHS.read(path) == older
    assert main(["verify", str(path)]) == 2
    assert "holds no configuration of its run" in capsys.readouterr().err
    write_records(tmp_path, transfer_record())
    (transfer,) = (tmp_path / "transfer").iterdir()
    assert main(["verify", str(transfer)]) == 2
    assert "is a result of transfer, which this command cannot derive" in capsys.readouterr().err


def test_a_student_that_diverges_is_no_row(config, output, tmp_path, capsys):
    shutil.copytree(output / "distilled", tmp_path / "distilled")
    assert run("fit", config, tmp_path, "--evaluation.graphs.lr=1e30") == 2
    assert "2 of 2 students have no result" in capsys.readouterr().err
    assert GRAPHS.read_all(tmp_path) == ([], [])
    assert not list((tmp_path / "graphs").glob("*.checkpoint"))
