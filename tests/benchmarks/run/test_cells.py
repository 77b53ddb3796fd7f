"""One cell: what decides its numbers, what is stored, and what a failure leaves behind."""

import json
import os
import time

import pytest
import torch
from killing import KillAt

from benchmarks.results.files import read_results
from benchmarks.run.cells import CellRunner, written_since
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from benchmarks.tables.folding import fold
from benchmarks.tables.notes import provenance_notes
from benchmarks.tracking.loggers import WandbOptions
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.storage import checkpoints


@pytest.fixture
def make_runner(coloured_noise, tmp_path):
    def make(weights: torch.Tensor | None = None, **recipe) -> CellRunner:
        data = coloured_noise()
        chosen = torch.cat([data.train.of_class(label)[:2] for label in range(3)])
        labels = data.train.labels[chosen]
        distilled = DistilledSet(
            data.train.load(chosen.tolist()),
            labels,
            torch.ones(6) if weights is None else weights,
            data.classes.names,
            {"method": "random", "ipc": 2, "seed": 0, "settings": {"ipc": 2}, "context": {}},
        )
        return CellRunner(
            data=data,
            distilled=distilled,
            folder=tmp_path,
            teacher=None,
            teacher_accuracies={},
            recipe=load_recipe("hard", {"epochs": 1, **recipe}),
            wandb=WandbOptions(mode="disabled"),
            output=tmp_path / "runs",
            trainer={"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
            config={},
        )

    return make


STUDENT = Student("convnet2-w8", name="small")


def test_a_cell_is_run_stored_and_found_again(make_runner):
    runner = make_runner()
    assert runner.find(STUDENT, 0) is None
    result = runner.run(STUDENT, 0)
    assert result is not None
    assert runner.find(STUDENT, 0) == result
    assert result.cell.student == "small"
    assert result.cell.recipe == "hard[epochs=1]"
    assert result.teacher is None
    assert result.distilled["bytes"] == 6 * 3 * 8 * 8


def test_a_display_name_makes_no_other_cell(make_runner, capsys):
    runner = make_runner()
    result = runner.run(STUDENT, 0)
    renamed = runner.run(Student("convnet2-w8", name="another"), 0)
    assert renamed.metrics == result.metrics
    assert renamed.created == result.created  # it was not trained again
    assert renamed.cell.student == "another"
    assert "the result of small is renamed" in capsys.readouterr().out
    results, problems = read_results(runner.output / "results")
    assert (results, problems) == ([renamed], [])


def test_a_stored_result_is_not_trained_again_unless_forced(make_runner, monkeypatch):
    runner = make_runner()
    first = runner.run(STUDENT, 0)
    calls = []
    monkeypatch.setattr(
        "benchmarks.run.cells.evaluate_student", lambda *a, **k: calls.append(1) or 1 / 0
    )
    assert runner.run(STUDENT, 0) == first
    assert calls == []
    assert runner.run(STUDENT, 0, force=True) is None
    assert calls == [1]


@pytest.mark.parametrize("change", ["seed", "student", "recipe", "weights"])
def test_whatever_decides_the_numbers_is_in_the_key(make_runner, change):
    base = make_runner().cell_config(STUDENT, 0)
    others = {
        "seed": lambda: make_runner().cell_config(STUDENT, 1),
        "student": lambda: make_runner().cell_config(Student("convnet2-w8", lr=0.1), 0),
        "recipe": lambda: make_runner(lr=0.1).cell_config(STUDENT, 0),
        "weights": lambda: make_runner(torch.tensor([0.5, 1.5] * 3)).cell_config(STUDENT, 0),
    }
    assert others[change]() != base
    assert make_runner().cell_config(STUDENT, 0) == base


def test_a_failure_is_told_recorded_and_stops_nobody_else(make_runner, capsys):
    runner = make_runner()
    broken = Student("convnet9", name="too deep")
    assert runner.run(broken, 0) is None
    assert "failed: too deep, seed 0" in capsys.readouterr().out
    (path,) = (runner.output / "failures").glob("*.json")
    assert json.loads(path.read_text())["cell"]["student"] == "too deep"
    assert runner.run(STUDENT, 0) is not None


def test_a_student_that_was_killed_goes_on_to_the_same_result(make_runner, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    many = {"epochs": 4, "batch_size": 3}  # two steps an epoch, a test after each
    whole_runner = make_runner(**many)
    whole = whole_runner.run(STUDENT, 0)
    (curves,) = whole_runner.output.glob("students/*/curves/metrics.csv")
    expected = curves.read_text()
    for result in (whole_runner.output / "results").iterdir():
        result.unlink()
    for kill_at in (3, 4):
        runner = make_runner(**many)
        runner.trainer = {**runner.trainer, "callbacks": [KillAt(kill_at)]}
        assert runner.run(STUDENT, 0) is None
        assert len(list(runner.output.glob("students/.*.checkpoint"))) == 1
    resumed = make_runner(**many).run(STUDENT, 0)
    assert resumed.config_hash == whole.config_hash
    assert resumed.metrics == whole.metrics
    assert curves.read_text() == expected
    assert not list(whole_runner.output.glob("students/.*.checkpoint"))


def test_an_interrupt_is_no_failure(make_runner, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    runner = make_runner()
    monkeypatch.setattr("benchmarks.run.cells.evaluate_student", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(STUDENT, 0)
    assert not (runner.output / "failures").exists()


def test_the_format_of_stored_labels_is_in_the_key_where_they_are_used(make_runner):
    hard, stored = make_runner(), make_runner()
    stored.recipe = load_recipe("unified", {"labels": "stored"})
    assert stored.cell_config(STUDENT, 0)["label_format"] == 1
    assert "label_format" not in hard.cell_config(STUDENT, 0)


def test_a_failure_of_an_earlier_run_is_not_this_ones(tmp_path):
    path = tmp_path / "failure.json"
    assert not written_since(path, time.time())
    path.write_text("{}")
    os.utime(path, (1_000, 1_000))
    assert not written_since(path, time.time())
    os.utime(path)
    assert written_since(path, time.time())


def test_a_student_that_diverges_is_a_failure_and_no_row(make_runner, capsys):
    runner = make_runner(lr=1e30, epochs=4)
    assert runner.run(STUDENT, 0) is None
    assert not (runner.output / "results").exists()
    (path,) = (runner.output / "failures").glob("*.json")
    error = json.loads(path.read_text())["error"]
    assert "diverged" in error
    assert "not finite" in error or "the loss was" in error
    assert "now 1e+30: recipe.overrides.lr" in error
    assert "Traceback" not in error
    assert "failed: small, seed 0: The student diverged" in capsys.readouterr().out
    assert not list(runner.output.rglob("*checkpoint"))


class Broken(Student):
    """Has weights that no loss shows."""

    def build(self, data, *, normalize=True):
        network = super().build(data, normalize=normalize)
        network.register_parameter("unused", torch.nn.Parameter(torch.tensor(float("inf"))))
        return network


class Silent(Student):
    """Gives NaN to test images, and sound logits while it trains."""

    def build(self, data, *, normalize=True):
        network = super().build(data, normalize=normalize)
        network.register_forward_hook(
            lambda module, _, logits: logits if module.training else logits * float("nan")
        )
        return network


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Broken, "after step 1 weights are not finite (NaN or infinite): network.unused"),
        (Silent, "after epoch 1 its logits for real test images are not finite"),
    ],
)
def test_weights_and_logits_that_are_not_finite_are_failures(make_runner, kind, message):
    runner = make_runner()
    assert runner.run(kind("convnet2-w8", name="broken"), 0) is None
    (path,) = (runner.output / "failures").glob("*.json")
    assert message in json.loads(path.read_text())["error"]


def test_test_images_are_shown_as_the_recipe_says(make_runner):
    plain, cut = make_runner(), make_runner(test_resize={8: 10})
    assert "test_resize" not in plain.cell_config(STUDENT, 0)["data"]
    assert cut.cell_config(STUDENT, 0)["data"]["test_resize"] == 10
    expected = plain.data.test.centred(8, 10).load(range(3))
    assert torch.equal(cut.data.test.load(range(3)), expected)
    result = cut.run(STUDENT, 0)
    assert result.config["data"]["test_resize"] == 10
    assert "test images (all, resized to 10, then the centre)" in provenance_notes(
        fold([result])[0]
    )
