"""The command line from outside: help, versions, mistakes, and one run from nothing to a table."""

import json
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmarks.cli import COMMANDS, main

TINY = Path(__file__).parent.parent / "configs" / "tiny.yaml"


def config(folder: Path, **changes) -> list[str]:
    content = {
        "data": {
            "class_path": "Digits",
            "init_args": {"limit_per_class": 12, "test_limit_per_class": 5},
        },
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 2}},
        "recipe": {"name": "unified", "overrides": {"epochs": 1}},
        "output": str(folder / "runs"),
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["--config", str(TINY), "--config", str(path)]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(arguments, capsys):
    started = time.perf_counter()
    assert main(arguments) == 0
    assert time.perf_counter() - started < 2
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


def test_an_unknown_command_gets_the_nearest(capsys):
    assert main(["fitt"]) == 2
    assert "Did you mean 'fit'" in capsys.readouterr().err


def test_fit_writes_a_row_and_reuses_it(tmp_path, capsys):
    arguments = ["fit", *config(tmp_path)]
    assert main(arguments) == 0
    assert "convnet" in capsys.readouterr().out
    (path,) = (tmp_path / "runs" / "results").glob("*.json")
    stamp = path.stat().st_mtime_ns
    record = json.loads(path.read_text())
    assert record["cell"]["method"] == "random"
    assert record["config"]["data"]["limit_per_class"] == 12
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    assert {item.name for item in folder.iterdir()} >= {
        "images.png",
        "metadata.json",
        "config.json",
    }
    assert main(arguments) == 0
    assert path.stat().st_mtime_ns == stamp
    assert main([*arguments, "--force", "true"]) == 0
    assert path.stat().st_mtime_ns > stamp
    assert json.loads(path.read_text())["metrics"]["top1_last"] == record["metrics"]["top1_last"]
    assert main(["leaderboard", str(tmp_path / "runs")]) == 0
    assert "random" in capsys.readouterr().out


def test_distill_then_evaluate_the_set_without_its_method(tmp_path, capsys):
    assert main(["distill", *config(tmp_path)]) == 0
    assert not (tmp_path / "runs" / "results").exists()
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    capsys.readouterr()
    assert main(["evaluate", *config(tmp_path, model=None, distilled=str(folder))]) == 0
    assert "convnet" in capsys.readouterr().out


def test_evaluate_without_a_given_set_uses_the_configured_method(tmp_path, capsys):
    assert main(["evaluate", *config(tmp_path)]) == 0
    assert "convnet" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["prior", "teacher"])
def test_prior_and_teacher_are_trained_once(command, tmp_path, capsys):
    assert main([command, *config(tmp_path, model=None)]) == 0
    first = capsys.readouterr().out
    assert main([command, *config(tmp_path, model=None)]) == 0
    second = capsys.readouterr().out
    assert "trained" in first
    assert "reused" in second


def test_print_config_is_complete_yaml(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["fit", *config(tmp_path), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"] == {"ipc": 2, "seed": 0}
    assert printed["students"][0]["arch"] == "convnet2-w8"


def test_options_win_over_files(tmp_path):
    assert main(["distill", *config(tmp_path), "--model.init_args.ipc", "3"]) == 0
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    assert folder.name.startswith("random-ipc3-")


MISTAKES = {
    "unknown class": (
        {"model": {"class_path": "RandomSelektion"}},
        ["RandomSelektion", "RandomSelection"],
    ),
    "unknown data class": ({"data": {"class_path": "Digitz"}}, ["Digitz", "Did you mean 'Digits'"]),
    "unknown key of a class": (
        {"model": {"class_path": "RandomSelection", "init_args": {"icp": 2}}},
        ["icp", "Did you mean 'ipc'"],
    ),
    "unknown nested key": (
        {"model": {"class_path": "DDOQ", "init_args": {"ipc": 2, "sampling": {"strenght": 1}}}},
        ["strenght", "Did you mean 'strength'"],
    ),
    "unknown top-level key": ({"modle": {"class_path": "DDOQ"}}, ["modle", "Did you mean 'model'"]),
    "unknown recipe": ({"recipe": {"name": "unifed"}}, ["unifed", "Did you mean 'unified'"]),
    "unknown recipe field": (
        {"recipe": {"name": "unified", "overrides": {"epoch": 2}}},
        ["epoch", "Did you mean 'epochs'"],
    ),
    "unknown student": ({"students": [{"arch": "resnet1888"}]}, ["resnet1888", "resnet18"]),
    "unknown student key": ({"students": [{"arhc": "resnet18"}]}, ["arhc"]),
    "wrong type": (
        {"model": {"class_path": "RandomSelection", "init_args": {"ipc": "many"}}},
        ["ipc", "many"],
    ),
    "value out of range": (
        {"model": {"class_path": "DDOQ", "init_args": {"ipc": 2, "sampling": {"strength": 2}}}},
        ["strength", "(0, 1]"],
    ),
    "data without a name": (
        {
            "data": {
                "class_path": "HuggingFaceImages",
                "init_args": {"image_size": 8, "train_files": "a", "test_files": "a"},
            }
        },
        ["dataset_name"],
    ),
    "missing argument": ({"model": {"class_path": "RandomSelection"}}, ["ipc"]),
    "ipc above the class": (
        {"model": {"class_path": "RandomSelection", "init_args": {"ipc": 13}}},
        ["ipc is 13", "12"],
    ),
    "ipc zero": (
        {"model": {"class_path": "RandomSelection", "init_args": {"ipc": 0}}},
        ["ipc must be at least 1"],
    ),
    "no students": ({"students": []}, ["students"]),
    "two students of one name": (
        {"students": [{"arch": "convnet2-w8"}, {"arch": "convnet2-w8"}]},
        ["share a name"],
    ),
    "no method": ({"model": None}, ["`model`"]),
    "no teacher": ({"teacher": None}, ["teacher"]),
    "no prior": (
        {"model": {"class_path": "DDOQ", "init_args": {"ipc": 2}}, "prior": None},
        ["prior"],
    ),
    "missing parquet": (
        {
            "data": {
                "class_path": "HuggingFaceImages",
                "init_args": {
                    "path": None,
                    "dataset_name": "x",
                    "train_files": "no.parquet",
                    "test_files": "no.parquet",
                    "image_size": 8,
                },
            }
        },
        ["no.parquet"],
    ),
    "missing prior folder": (
        {
            "model": {"class_path": "DDOQ", "init_args": {"ipc": 2}},
            "prior": {"class_path": "PretrainedPrior", "init_args": {"path": "./nowhere"}},
        },
        ["nowhere"],
    ),
    "missing teacher folder": (
        {"teacher": {"class_path": "PretrainedTeacher", "init_args": {"path": "nowhere"}}},
        ["nowhere"],
    ),
    "missing distilled set": ({"distilled": "nowhere"}, ["nowhere"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_error(mistake, tmp_path, capsys):
    changes, expected = MISTAKES[mistake]
    command = "evaluate" if "distilled" in changes else "fit"
    assert main([command, *config(tmp_path, **changes)]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
    for part in expected:
        assert part in error, error
    assert len(error) < 1500, error


def test_a_missing_configuration_is_named(capsys):
    assert main(["fit", "--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml does not exist" in capsys.readouterr().err


def test_a_corrupt_shard_is_named_and_made_again(tmp_path, capsys):
    assert main(["distill", *config(tmp_path)]) == 0
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    (folder / "distilled.safetensors").unlink()
    shards = sorted((tmp_path / "runs" / "shards").rglob("*.safetensors"))
    shards[4].write_bytes(shards[4].read_bytes()[:100])
    capsys.readouterr()
    tensors = shards[3].read_bytes()
    assert main(["distill", *config(tmp_path)]) == 0
    error = capsys.readouterr().err
    assert error.count("damaged: ") == 1
    assert f"{shards[4]} is corrupt" in error
    assert sorted((tmp_path / "runs" / "shards").rglob("*.safetensors")) == shards
    assert shards[3].read_bytes() == tensors


def test_a_corrupt_image_is_named(tmp_path, capsys):
    for split in ("train", "val"):
        for label in ("00", "01"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(folder / f"{number}.png")
    broken = tmp_path / "images" / "train" / "01" / "1.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    data = {"root": str(tmp_path / "images"), "image_size": 8, "dataset_name": "images"}
    changes = {
        "data": {"class_path": "ImageFolderImages", "init_args": data},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 3}},
    }
    assert main(["distill", *config(tmp_path, **changes)]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert str(broken) in error


def test_a_prior_of_other_classes_is_refused(tmp_path, capsys):
    assert main(["prior", *config(tmp_path, model=None)]) == 0
    (folder,) = (tmp_path / "runs" / "priors").glob("prior-*")
    index = folder / "transformer" / "config.json"
    content = json.loads(index.read_text())
    assert content["num_embeds_ada_norm"] == 10
    changes = {
        "prior": {
            "class_path": "PretrainedPrior",
            "init_args": {"path": str(folder), "classes": [0, 1]},
        },
        "model": {"class_path": "DDOQ", "init_args": {"ipc": 2}},
    }
    capsys.readouterr()
    assert main(["distill", *config(tmp_path, **changes)]) == 2
    error = capsys.readouterr().err
    assert "has 2 classes, digits has 10" in error


def test_a_distilled_set_of_other_classes_is_refused(tmp_path, capsys):
    assert main(["distill", *config(tmp_path)]) == 0
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    record = json.loads((folder / "metadata.json").read_text())
    del record["checksum"]
    record["class_names"][:2] = record["class_names"][1::-1]
    (folder / "metadata.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(["evaluate", *config(tmp_path, model=None, distilled=str(folder))]) == 2
    assert "other classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [("--output=caf\udce9", "is not UTF-8: rename"), ("--config=a\0b", "no name can have")],
)
def test_names_that_nothing_can_store_are_one_error(argument, message, capsys):
    for command in ("fit", "suite", "leaderboard"):
        assert main([command, argument]) == 2
        assert message in capsys.readouterr().err


def test_a_name_that_is_too_long_is_one_error(tmp_path, capsys):
    long = "x" * 5000
    assert main(["fit", f"--config={long}.yaml"]) == 2
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"{{datasets: [digits], methods: [{long}]}}")
    assert main(["suite", str(suite)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") and "xxx" in line for line in lines)
