"""Sets that hold more than 8-bit images, evaluated from the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.cli import main
from ddoq.data import Digits
from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.labels.targets import Targets

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
DATA = {"limit_per_class": 12, "test_limit_per_class": 5}


@pytest.fixture
def plain() -> DistilledSet:
    data = Digits(**DATA)
    data.setup()
    chosen = torch.cat([data.train.of_class(label)[:2] for label in range(10)])
    return DistilledSet(
        data.train.load(chosen.tolist()),
        data.train.labels[chosen],
        torch.ones(20),
        data.classes.names,
        {"method": "mine", "ipc": 2, "seed": 0, "settings": {"ipc": 2}},
    )


def inside(distilled: DistilledSet, **form: Any) -> DistilledSet:
    """Put a set into the space of normalised images, with some noise beyond [0, 1]."""
    transform = Transform.normalize((0.3, 0.3, 0.3), (0.25, 0.25, 0.25))
    noise = 0.3 * torch.randn(distilled.images.shape, generator=torch.Generator().manual_seed(0))
    images = transform.apply(distilled.images / 255 + noise)
    return replace(distilled, images=images, form=SetForm(transform=transform, **form))


def evaluate(
    folder: Path, distilled: DistilledSet, recipe: dict[str, Any], *more: str
) -> tuple[int, list[dict[str, Any]]]:
    if not DistilledSet.exists(folder / "set"):
        distilled.save(folder / "set")
    content = {
        "data": {"class_path": "Digits", "init_args": DATA},
        "recipe": recipe,
        "distilled": str(folder / "set"),
        "output": str(folder / "runs"),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    status = main(
        ["evaluate", "--config", str(TINY), "--config", str(folder / "config.yaml"), *more]
    )
    files = sorted(
        (folder / "runs" / "results").glob("*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    return status, [json.loads(file.read_text()) for file in files]


SHORT = {"epochs": 2}


def test_a_float_set_is_evaluated_as_it_is_and_rounded(tmp_path, plain, capsys):
    recipe = {"name": "hard", "overrides": SHORT}
    assert evaluate(tmp_path, inside(plain), recipe)[0] == 0
    status, (floats, rounded) = evaluate(
        tmp_path, plain, recipe, "--evaluation.set_precision", "uint8"
    )
    assert status == 0
    assert floats["distilled"]["bytes"] == 4 * rounded["distilled"]["bytes"]
    assert "set_precision" not in floats["config"]["distilled"]
    assert rounded["config"]["distilled"]["set_precision"] == "uint8"
    assert floats["metrics"]["curve"] != rounded["metrics"]["curve"]
    capsys.readouterr()
    assert main(["leaderboard", str(tmp_path / "runs" / "results")]) in (0, 1)
    assert "set_precision=uint8" in capsys.readouterr().out


def test_rounding_leaves_an_8_bit_set_and_its_result_alone(tmp_path, plain):
    recipe = {"name": "hard", "overrides": SHORT}
    evaluate(tmp_path, plain, recipe)
    status, results = evaluate(tmp_path, plain, recipe, "--evaluation.set_precision", "uint8")
    assert (status, len(results)) == (0, 1)


def test_a_grid_counts_what_is_stored_and_trains_on_what_is_decoded(tmp_path, plain, capsys):
    grid = replace(plain, form=SetForm(Grid(2)))
    _, (result,) = evaluate(tmp_path, grid, {"name": "hard", "overrides": SHORT})
    assert result["cell"]["ipc"] == 2
    assert (result["distilled"]["images"], result["distilled"]["decoded_images"]) == (20, 80)
    assert result["distilled"]["bytes"] == result["distilled"]["stored_bytes"]
    assert result["cost"]["effective_batch"] == 80
    assert main(["leaderboard", str(tmp_path / "runs" / "results")]) in (0, 1)
    assert "images seen" in capsys.readouterr().out


def test_the_recipe_that_came_with_the_set(tmp_path, plain):
    own = SetRecipe("dsa", {"lr": "set", "epochs": 3}, lr=0.05)
    _, (result,) = evaluate(
        tmp_path, inside(plain, recipe=own), {"name": "own", "overrides": {"batch_size": 7}}
    )
    assert result["cell"]["recipe"] == "dsa[batch_size=7,epochs=3,lr=set]"
    assert result["config"]["recipe"]["lr"] == "set"
    assert result["config"]["recipe"]["siamese"].startswith("color_")
    # Half of the epochs at the learned rate, the rest at a tenth of it.
    rates = [entry["lr"] for entry in result["metrics"]["curve"]]
    assert rates == pytest.approx([0.05, 0.005, 0.005])


def test_a_set_without_a_recipe_says_so(tmp_path, plain, capsys):
    status, results = evaluate(tmp_path, plain, {"name": "own"})
    assert (status, results) == (2, [])
    assert "without a recipe of its own: give recipe.name one of" in capsys.readouterr().err


def test_targets_of_the_set_teach_without_a_teacher(tmp_path, plain):
    shares = torch.full((20, 10), 0.05)
    shares[torch.arange(20), plain.labels] = 0.55
    taught = replace(plain, targets=Targets(shares, "probabilities"))
    recipe = {"name": "unified", "overrides": {**SHORT, "labels": "set", "loss": "mse"}}
    _, (result,) = evaluate(tmp_path, taught, recipe, "--teacher", "null")
    assert (result["teacher"], result["cell"]["recipe"]) == (
        None,
        "unified[epochs=2,labels=set,loss=mse]",
    )
    assert result["distilled"]["stored_bytes"] - result["distilled"]["bytes"] == 20 * 10 * 4
    assert result["distilled"]["uint8_bytes"] == result["distilled"]["stored_bytes"]
    assert result["distilled"]["float_bytes"] == 4 * result["distilled"]["bytes"] + 20 * 10 * 4


def test_targets_that_are_missing_fail_every_student(tmp_path, plain, capsys):
    recipe = {"name": "unified", "overrides": {"labels": "set", **SHORT}}
    status, results = evaluate(tmp_path, plain, recipe, "--teacher", "null")
    assert (status, results) == (2, [])
    printed = capsys.readouterr()
    assert "the set came without targets" in printed.out + printed.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": {"name": "gan", "layer": 3}}, "the decoder 'gan', which is not known here"),
        ({"format": 3}, "format 3: it was written by a newer version"),
    ],
)
def test_sets_that_this_version_cannot_read(tmp_path, plain, change, message, capsys):
    plain.save(tmp_path / "set")
    path = tmp_path / "set" / "metadata.json"
    record = {**json.loads(path.read_text()), **change}
    del record["checksum"]
    path.write_text(json.dumps(record))
    status, _ = evaluate(tmp_path, plain, {"name": "hard"})
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert str(path) in printed
