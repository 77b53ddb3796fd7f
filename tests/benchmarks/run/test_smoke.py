from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main
from benchmarks.run.smoke import smoke_config
from ddoq.errors import UserError
from ddoq.teachers import TrainedTeacher

WHOLE = {
    "smoke": True,
    "output": "runs/mine",
    "distilled": None,
    "data": {
        "class_path": "ddoq.data.HuggingFaceImages",
        "init_args": {"path": "a/b", "image_size": 224, "registry": "imagenette"},
    },
    "model": {
        "class_path": "ddoq.ddoq.DDOQ",
        "init_args": {"ipc": 50, "weight_power": 0.5, "sampling": {"strength": 0.5}},
    },
    "prior": {"class_path": "ddoq.priors.PretrainedPrior", "init_args": {"path": "big/prior"}},
    "teacher": {"class_path": "ddoq.teachers.TrainedTeacher", "init_args": {"lr": 0.3}},
    "students": [{"arch": "resnet101"}, {"arch": "vit"}],
    "seeds": [3, 4],
    "recipe": {"name": "sre2l", "overrides": {"flip": False, "epochs": {1: {1: 400}}}},
    "wandb": {"mode": "online", "project": "p"},
    "trainer": {"strategy": {"class_path": "lightning.pytorch.strategies.DDPStrategy"}},
}


def changed(**changes):
    return smoke_config({**WHOLE, **changes})[0]


def test_methods_and_teachers_are_changed_by_what_they_say_themselves():
    arguments = changed()["model"]["init_args"]
    assert arguments["ipc"] == 2
    assert arguments["weight_power"] == 0.5
    assert arguments["sampling"] == {"strength": 0.5, "num_inference_steps": 4}
    teacher = changed()["teacher"]
    assert teacher["class_path"] == "ddoq.teachers.TrainedTeacher"
    assert (teacher["init_args"]["epochs"], teacher["init_args"]["lr"]) == (1, 0.3)


def test_a_prior_keeps_its_features_and_they_are_tiny():
    features = {"class_path": "ddoq.teachers.TrainedTeacher", "init_args": {"lr": 0.3, "epochs": 9}}
    arguments = {"vae": {"feature_weight": 0.1}, "features": features}
    prior = changed(prior={"class_path": "ddoq.priors.TrainedPrior", "init_args": arguments})[
        "prior"
    ]
    assert prior["init_args"]["vae"]["feature_weight"] == 0.1
    tiny = prior["init_args"]["features"]
    assert tiny["class_path"] == features["class_path"]
    assert tiny["init_args"] == {"lr": 0.3, **TrainedTeacher.tiny(features["init_args"])}
    assert changed()["prior"]["init_args"].get("features") is None


def test_downloads_are_replaced_and_the_user_is_told():
    config, notes = smoke_config(WHOLE)
    assert config["prior"]["class_path"] == "ddoq.priors.TrainedPrior"
    assert config["prior"]["init_args"]["vae"]["steps"] == 2
    assert notes[0].startswith("smoke run: tiny sizes")
    assert "runs/mine/smoke" in notes[0]
    assert notes[1:] == ["smoke run: prior is a tiny TrainedPrior in the place of PretrainedPrior."]


def test_the_configured_data_are_kept_but_for_their_number():
    data = changed()["data"]
    assert data["class_path"].endswith("FewImages")
    source = data["init_args"]["source"]
    assert source["class_path"] == "ddoq.data.HuggingFaceImages"
    assert source["init_args"]["path"] == "a/b"
    assert source["init_args"]["image_size"] == 16


def test_synthetic_images_take_their_place_on_request():
    config, notes = smoke_config({**WHOLE, "smoke": "synthetic"})
    assert config["data"]["class_path"] == "ddoq.data.SyntheticImages"
    assert config["data"]["init_args"] == {"image_size": 16, "registry": "imagenette"}
    assert any("data is a tiny SyntheticImages" in note for note in notes)


def test_the_data_of_a_given_set_keep_its_size_and_classes():
    data = changed(distilled="a/set")["data"]
    assert data["init_args"] == {"classes": None, "source": WHOLE["data"]}


def test_results_logs_and_students_are_those_of_a_trial():
    config = changed()
    assert config["output"] == "runs/mine/smoke"
    assert changed(output="runs/mine/smoke")["output"] == "runs/mine/smoke"  # of a suite
    assert config["wandb"] == {"mode": "disabled", "project": "p"}
    assert (len(config["students"]), config["seeds"]) == (1, [0])
    assert config["recipe"] == {"name": "sre2l", "overrides": {"flip": False, "epochs": 1}}
    assert config["trainer"] == WHOLE["trainer"]


def test_stored_labels_keep_no_more_classes_than_there_are():
    overrides = {"labels": "stored", "label_top_k": 50}
    recipe = changed(recipe={"name": "unified", "overrides": overrides})["recipe"]
    assert recipe["overrides"] == {"labels": "stored", "label_top_k": 1, "epochs": 1}


def test_classes_among_arguments_are_made_tiny_too():
    inner = {"class_path": "ddoq.teachers.TrainedTeacher", "init_args": {"epochs": 90}}
    prior = {"class_path": "ddoq.priors.PretrainedPrior", "init_args": {"path": "x"}}
    model = {
        "class_path": "ddoq.ddoq.DDOQ",
        "init_args": {"ipc": 1, "experts": [inner], "generator": {"a": prior}},
    }
    config, notes = smoke_config({**WHOLE, "model": model, "prior": None})
    arguments = config["model"]["init_args"]
    assert arguments["experts"][0]["init_args"]["epochs"] == 1
    assert arguments["generator"]["a"]["class_path"] == "ddoq.priors.TrainedPrior"
    assert any("model.generator.a is a tiny TrainedPrior" in note for note in notes)
    assert config["prior"] is None


def test_mistakes_are_named():
    with pytest.raises(UserError, match="no recipe 'unifed'"):
        changed(recipe={"name": "unifed", "overrides": {}})
    with pytest.raises(UserError, match=r"nowhere\.Nothing cannot be imported"):
        changed(teacher={"class_path": "nowhere.Nothing"})


def config(folder: Path, **changes) -> list[str]:
    content = {
        "data": {"class_path": "Digits"},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 5}},
        "teacher": {"class_path": "TrainedTeacher"},
        "students": [{"arch": "resnet18"}],
        "output": str(folder / "runs"),
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["--config", str(path)]


def test_a_smoke_run_keeps_to_a_folder_of_its_own(tmp_path, capsys):
    assert main(["fit", *config(tmp_path), "--smoke", "true"]) == 0
    assert "random on digits-smoke, 2 images per class" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["smoke"]
    assert main(["leaderboard", str(tmp_path / "runs")]) != 0
    capsys.readouterr()
    assert main(["leaderboard", str(tmp_path / "runs" / "smoke")]) == 0
    assert "digits-smoke" in capsys.readouterr().out


def test_a_given_set_is_tried_on_its_own_classes_and_size(tmp_path, capsys):
    small = {"class_path": "Digits", "init_args": {"image_size": 8, "limit_per_class": 9}}
    assert main(["distill", *config(tmp_path, data=small)]) == 0
    (folder,) = (tmp_path / "runs" / "distilled").iterdir()
    capsys.readouterr()
    given = config(tmp_path, data=small, distilled=str(folder), model=None)
    assert main(["evaluate", *given, "--smoke=true"]) == 0
    assert "random on digits-smoke, 5 images per class" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "results").exists()


@pytest.mark.parametrize("command", ["teacher", "plan"])
def test_other_commands_can_be_tried_too(command, tmp_path, capsys):
    assert main([command, *config(tmp_path), "--smoke=true"]) == 0
    assert "convnet2-w8" in capsys.readouterr().out


def test_data_that_are_not_there_are_named_and_synthetic_ones_offered(tmp_path, capsys):
    arguments = {"root": str(tmp_path / "no"), "dataset_name": "none", "image_size": 224}
    given = config(tmp_path, data={"class_path": "ImageFolderImages", "init_args": arguments})
    assert main(["distill", *given, "--smoke=true"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "no" / "train") in error
    assert "--smoke synthetic" in error
    assert main(["distill", *given, "--smoke=synthetic"]) == 0


def test_another_word_is_refused(tmp_path, capsys):
    assert main(["distill", *config(tmp_path), "--smoke=sometimes"]) == 2
    assert "smoke" in capsys.readouterr().err


def test_the_recipe_of_a_set_to_come_is_only_shortened():
    recipe = changed(recipe={"name": "own", "overrides": {"lr": 0.1}})["recipe"]
    assert recipe == {"name": "own", "overrides": {"lr": 0.1, "epochs": 1, "warmup": 0}}
