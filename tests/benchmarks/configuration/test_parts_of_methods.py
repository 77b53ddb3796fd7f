"""Methods whose arguments are classes, from YAML and options: ingredients, and methods around methods."""

import json

import pytest
import yaml
from toy_methods import ClassMeans, MeanImages, Trivial

from baselines.random_selection import RandomSelection
from benchmarks.cli import main
from ddoq.data import Digits

MEANS = {"class_path": "ClassMeans", "init_args": {"gain": 0.5}}


@pytest.fixture
def distil(tmp_path):
    """Distil digits by a method of a configuration, and return the exit status."""

    def run(model, *options):
        data = {"class_path": "Digits", "init_args": {"limit_per_class": 5}}
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"data": data, "model": model}))
        layers = ["--config", str(config), "--output", str(tmp_path)]
        return main(["distill", *layers, "--trainer.enable_progress_bar=false", *options])

    return run


def few_digits():
    data = Digits(limit_per_class=5)
    data.setup()
    return data


def sets(folder):
    return {path.name for path in (folder / "distilled").iterdir()}


def test_yaml_and_python_give_one_set(distil, trainer, tmp_path):
    """Whoever constructs the parts, the record and the keys are the same."""
    assert distil({"class_path": "MeanImages", "init_args": {"ipc": 1, "means": MEANS}}) == 0
    method = MeanImages(1, ClassMeans(0.5))
    method.attach(few_digits())
    distilled, folder = method.run(trainer, tmp_path)
    assert sets(tmp_path) == {folder.name}
    assert distilled.metadata["settings"] == {"ipc": 1, "means": MEANS, "seed": 0}


def test_options_reach_the_parts_of_a_method(distil, tmp_path):
    model = {"class_path": "MeanImages", "init_args": {"ipc": 1, "means": {**MEANS}}}
    assert distil(model, "--model.init_args.means.init_args.gain=0.25") == 0
    (name,) = sets(tmp_path)
    record = json.loads((tmp_path / "distilled" / name / "metadata.json").read_text())
    assert record["settings"]["means"]["init_args"] == {"gain": 0.25}


def test_a_grid_over_ipc_and_seed_reaches_the_base_of_wrappers(distil, trainer, tmp_path):
    base = {"class_path": "RandomSelection", "init_args": {"ipc": 1}}
    nested = {"class_path": "Trivial", "init_args": {"base": base}}
    model = {"class_path": "Trivial", "init_args": {"base": nested}}
    assert distil(model, "--model.init_args.ipc=2", "--model.init_args.seed=3") == 0
    method = Trivial(Trivial(RandomSelection(2, seed=3)))
    method.attach(few_digits())
    assert sets(tmp_path) == {method.run(trainer, tmp_path)[1].name}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"class_path": "MeanImages", "init_args": {"ipc": 1, "means": "RandomSelection"}},
            "Unknown class 'RandomSelection' for `means` of MeanImages",
        ),
        (
            {"class_path": "Trivial", "init_args": {"base": MEANS}},
            "Unknown class 'ClassMeans' for `base` of Trivial",
        ),
        (
            {"class_path": "Trivial", "init_args": {"base": "Wrapper"}},
            "Unknown class 'Wrapper' for `base` of Trivial",
        ),
        (
            {"class_path": "MeanImages", "init_args": {"ipc": 1, "means": 3}},
            "must name a class, or hold `class_path` and `init_args`, not 3",
        ),
        ({"class_path": "Trivial"}, "`model` (Trivial) needs base: give --model.init_args.base"),
    ],
)
def test_a_part_of_the_wrong_class_is_one_clear_error(model, expected, distil, capsys, tmp_path):
    assert distil(model) == 2
    told = capsys.readouterr().err
    assert expected in told
    assert "Traceback" not in told
    assert not (tmp_path / "distilled").exists()
