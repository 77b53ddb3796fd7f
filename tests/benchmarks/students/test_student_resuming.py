"""A student whose training is killed, at any step, ends with the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from killing import KillAt, KilledError, KillProcessAt, run_until_killed
from torch import nn

from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.students.module import StudentModule
from benchmarks.students.recipes import load_recipe
from benchmarks.students.stored_labels import StoredLabels
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.networks import build_network
from ddoq.storage.checkpoints import Checkpoint
from ddoq.teachers import Teacher

N, EPOCHS = 12, 3
BATCHES = {"epochs": EPOCHS, "batch_size": 5}  # three steps an epoch
WHERE = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


class Dropping(Student):
    """Draws from the global generator in every step."""

    def build(self, data, *, normalize: bool = True) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(288, 3),
        )


@pytest.fixture
def data(coloured_noise):
    return coloured_noise()


@pytest.fixture
def distilled(data) -> DistilledSet:
    chosen = torch.cat([data.train.of_class(label)[:4] for label in range(3)])
    images, labels = data.train.load(chosen.tolist()), data.train.labels[chosen]
    weights = torch.tensor([0.5, 1.5]).repeat(6)
    stages = torch.tensor([0, 0, 1, 1]).repeat(3)
    return DistilledSet(images, labels, weights, data.classes.names, stages=stages)


def make_teacher() -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("convnet2-w8-bn", num_classes=3, image_size=8)
    names = ["a", "b", "c"]
    return Teacher(
        network, arch="c", class_names=names, class_keys=names, image_size=8, accuracy=0.5
    )


class Kept(StudentModule):
    """Remembers the weights of the last training."""

    weights: torch.Tensor

    def on_train_end(self) -> None:
        Kept.weights = torch.cat([p.detach().flatten() for p in self.network.parameters()])


@pytest.fixture(autouse=True)
def _weights_are_kept(monkeypatch):
    monkeypatch.setattr("benchmarks.students.evaluation.StudentModule", Kept)


def train(
    folder: Path, distilled, data, *callbacks, recipe="hard", seconds: float = 0.0, **options: Any
):
    overrides = {**BATCHES, **options.pop("overrides", {})}
    training = TrainingSet.of(distilled, load_recipe(recipe, overrides), data.mean, data.std)
    run = Run(
        trainer={**WHERE, "callbacks": [*callbacks]},
        eval_every=options.pop("eval_every", 1),
        labels_folder=folder / "labels",
        checkpoint=Checkpoint(folder / "student.checkpoint", "key", seconds),
    )
    student = options.pop("student", Student("convnet2-w8"))
    teacher = None if recipe == "hard" else make_teacher()
    outcome = evaluate_student(training, data, teacher, student, seed=0, run=run)
    return outcome, Kept.weights


CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd with momentum, tested every other epoch": {
        "overrides": {"optimizer": "sgd", "lr": 0.1},
        "eval_every": 2,
    },
    "never tested on the way": {"eval_every": 9},
    "one batch an epoch": {"overrides": {"batch_size": 50, "epochs": 4}},
    "steps of the rate": {
        "overrides": {"schedule": "multistep", "milestones": [0.34, 0.67], "gamma": 0.5}
    },
    "labels made online": {"recipe": "unified"},
    "stored labels": {"recipe": "unified", "overrides": {"labels": "stored"}},
    "stage by stage": {"overrides": {"staged": True, "epochs": 2}},
    "dropout and batch normalisation": {"student": Dropping("dropping")},
}


@pytest.mark.parametrize("case", CASES)
def test_same_bits_wherever_it_is_killed(tmp_path, distilled, data, case, capsys):
    options = CASES[case]
    whole, weights = train(tmp_path / "whole", distilled, data, **options)
    steps = whole.steps
    assert steps >= 4
    kills = range(1, steps) if case == "adamw" else [k for k in (1, 3, 6) if k < steps]
    for kill_at in kills:
        folder = tmp_path / str(kill_at)
        with pytest.raises(KilledError):
            train(folder, distilled, data, KillAt(kill_at), **options)
        assert (folder / "student.checkpoint").is_file()
        torch.manual_seed(kill_at)
        resumed, again = train(folder, distilled, data, **options)
        assert torch.equal(again, weights), kill_at
        assert resumed.curve == whole.curve, kill_at
        assert resumed.steps == whole.steps
        assert not (folder / "student.checkpoint").exists()
    assert capsys.readouterr().out.count("going on with a training") == len(kills)


def test_nothing_is_done_twice(tmp_path, distilled, data, monkeypatch):
    with pytest.raises(KilledError):
        train(tmp_path, distilled, data, KillAt(4))
    seen = []
    step = Kept.training_step
    monkeypatch.setattr(
        Kept,
        "training_step",
        lambda self, batch, index: seen.append(self.current_epoch) or step(self, batch, index),
    )
    train(tmp_path, distilled, data)
    assert seen == [1, 1, 2, 2, 2]  # one of three steps of epoch 1 was done


def test_labels_are_read_again_where_the_training_goes_on(tmp_path, distilled, data, monkeypatch):
    options = CASES["stored labels"]
    with pytest.raises(KilledError):
        train(tmp_path, distilled, data, KillAt(4), **options)
    read = []
    epoch = StoredLabels.epoch
    monkeypatch.setattr(
        StoredLabels, "epoch", lambda self, number: read.append(number) or epoch(self, number)
    )
    train(tmp_path, distilled, data, **options)
    assert read == [1, 2]


def test_a_process_that_is_killed_at_once(tmp_path, distilled, data):
    whole, weights = train(tmp_path / "whole", distilled, data)
    run_until_killed(train, tmp_path / "killed", distilled, data, KillProcessAt(5))
    resumed, again = train(tmp_path / "killed", distilled, data)
    assert torch.equal(again, weights)
    assert resumed.curve == whole.curve
    assert resumed.seconds > 0


def test_short_trainings_write_nothing(tmp_path, distilled, data):
    folder = tmp_path / "short"
    with pytest.raises(KilledError):
        train(folder, distilled, data, KillAt(5), seconds=60.0)
    assert not folder.exists()


def test_a_checkpoint_of_another_training_is_refused(tmp_path, distilled, data):
    Checkpoint(tmp_path / "student.checkpoint", "another").save({}, {})
    with pytest.raises(UserError, match=r"student\.checkpoint is a checkpoint of other settings"):
        train(tmp_path, distilled, data)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_training_that_diverges_leaves_nothing_to_go_on_from(
    tmp_path, distilled, data, seconds, monkeypatch
):
    step = StudentModule.training_step

    def broken(self, batch, index):
        late = self.current_epoch == 1 and index == 2
        return step(self, batch, index) * (float("nan") if late else 1)

    monkeypatch.setattr(StudentModule, "training_step", broken)
    message = r"diverged: the loss was nan in epoch 2 of 3, step 3 of 3\. Lower the learning rate"
    with pytest.raises(DivergedError, match=message):
        train(tmp_path, distilled, data, seconds=seconds)
    assert not list(tmp_path.rglob("*checkpoint*"))
