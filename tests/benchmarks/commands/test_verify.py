"""A result is derived anew: it comes out again, or what differs is named."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.results.files import read_result
from ddoq.storage.fingerprints import hash_config

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
CONFIG = {
    "extends": [str(TINY)],
    "data": {"class_path": "Digits", "init_args": {"limit_per_class": 4}},
    "model": {"class_path": "DDOQ", "init_args": {"ipc": 2}},
    "recipe": {"name": "unified", "overrides": {"epochs": 2}},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory):
    output = tmp_path_factory.mktemp("original") / "runs"
    assert main(["fit", "--config", str(config), "--output", str(output)]) == 0
    return output


@pytest.fixture
def result(runs, tmp_path):
    (path,) = (runs / "results").glob("*.json")
    return Path(shutil.copy(path, tmp_path / path.name))


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def changed(path, change, *, rename=False):
    """Change a result as a careful forger would: with hashes that fit."""
    record = json.loads(path.read_text())
    change(record)
    record["config_hash"] = hash_config(record["config"])
    record.pop("record_hash")
    path.unlink()
    path = path.with_name(f"{record['config_hash']}.json") if rename else path
    path.write_text(json.dumps({**record, "record_hash": hash_config(record)}))
    return path


def verdicts(text):
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): row[-1].strip() for row in rows[2:]}


def test_a_result_comes_out_again_and_nothing_is_overwritten(runs, result, tmp_path, capsys):
    before = files(runs)
    output = tmp_path / "again"
    assert main(["verify", str(result), "--output", str(output)]) == 0
    told = verdicts(capsys.readouterr().out)
    assert set(told.values()) == {"same"}
    for stage in ("dataset", "method", "recipe", "versions and machine", "prior", "teacher"):
        assert stage in told
    assert {"distilled set", "student", "top1_last", "training losses (the last)"} <= set(told)
    assert files(runs) == before
    assert (output / "priors").is_dir()
    assert main(["verify", str(result), "--output", str(output)]) == 0  # goes on where it was
    assert main(["verify", str(result), "--output", str(runs)]) == 2
    assert "is not empty, and this command overwrites nothing" in capsys.readouterr().err


def test_a_forged_accuracy_is_found(runs, result, capsys):
    path = changed(result, lambda record: record["metrics"].update(top1_last=0.99))
    assert read_result(path).metrics.top1_last == 0.99
    before = files(runs)
    assert main(["verify", str(path), "--reuse", str(runs)]) == 1
    shown = capsys.readouterr().out
    assert verdicts(shown)["top1_last"] == "differs"
    assert verdicts(shown)["top1_best"] == "same"
    assert "did NOT come out again" in shown
    assert files(runs) == before


def test_other_data_and_other_settings_are_named_before_anything_is_trained(result, capsys):
    assert main(["verify", str(result), "--data.init_args.limit_per_class=3"]) == 1
    told = verdicts(capsys.readouterr().out)
    assert told["dataset: limit_per_class"] == told["dataset: train_images"] == "differs"
    assert "top1_last" not in told
    assert main(["verify", str(result), "--model.ipc=1", "--recipe.overrides={epochs: 3}"]) == 1
    told = verdicts(capsys.readouterr().out)
    assert (told["dataset"], told["method: ipc"]) == ("same", "differs")
    assert told["recipe: epochs"] == "differs"


def test_results_of_older_versions_need_their_configuration(result, config, capsys):
    path = changed(result, lambda record: record.pop("run"))
    assert read_result(path).run is None
    assert main(["verify", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path} holds no configuration of its run" in told
    assert "--config" in told
    # With one it is read and compared: here, with less data, it stops before anything is trained.
    less = "--data.init_args.limit_per_class=3"
    assert main(["verify", str(path), "--config", str(config), less]) == 1
    assert verdicts(capsys.readouterr().out)["dataset: limit_per_class"] == "differs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "nowhere.json"),
        (["{result}", "--tolerance=2"], "--tolerance must be a share"),
        (["{result}", "--reuse=."], "it is no output of a run"),
        ([], "result"),
    ],
)
def test_mistakes_end_with_status_2(arguments, message, result, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", *(a.format(result=result) for a in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_derived_says_so(result, capsys):
    def place(record):
        record["run"]["data"]["init_args"]["root"] = "<a place on the machine of the run>"

    assert main(["verify", str(changed(result, place))]) == 2
    assert "does not say where data.init_args.root was" in capsys.readouterr().err
    joint = {"world_size": 2, "sync_batchnorm": False}
    path = changed(result, lambda r: r["config"].update(evaluation=joint), rename=True)
    assert main(["verify", str(path)]) == 2
    assert "2 ranks trained this student together" in capsys.readouterr().err
    path.write_text(path.read_text().replace("unified", "other"))
    assert main(["verify", str(path)]) == 2
