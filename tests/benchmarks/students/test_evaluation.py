import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from benchmarks.results.outcome import Outcome
from benchmarks.students.evaluation import Run, evaluate_student
from benchmarks.students.module import StudentModule
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import ImageSplit, TensorSplit
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


class SmallDigits(ImageDataModule):
    name = "small-digits"

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        digits = load_digits()
        images = (torch.tensor(digits.images) * 255 / 16).to(torch.uint8)
        images = images.unsqueeze(1).repeat(1, 3, 1, 1)
        labels = torch.tensor(digits.target).long()
        train, test = (
            TensorSplit(images[:1297], labels[:1297]),
            TensorSplit(images[1297:], labels[1297:]),
        )
        return train, test, ClassRegistry([f"digit {label}" for label in range(10)])

    def source_fingerprint(self) -> str:
        return "scikit-learn's digits"


def convnet(*, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Dropout(dropout),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


class OwnStudent(Student):
    def build(self, data: ImageDataModule) -> nn.Module:
        return convnet(**self.kwargs)


class SmallTeacher(nn.Module):
    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.network = convnet()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images).float()


@pytest.fixture(scope="module")
def data() -> SmallDigits:
    data = SmallDigits(image_size=8)
    data.setup()
    return data


@pytest.fixture(scope="module")
def teacher(data) -> SmallTeacher:
    torch.manual_seed(0)
    teacher = SmallTeacher()
    optimizer = torch.optim.Adam(teacher.parameters(), 2e-3)
    for _ in range(8):
        for positions in torch.randperm(1297).split(64):
            logits = teacher(data.train.images[positions] / 255)
            loss = nn.functional.cross_entropy(logits, data.train.labels[positions])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return teacher.eval()


@pytest.fixture(scope="module")
def distilled(data) -> DistilledSet:
    positions = torch.cat([data.train.of_class(label)[:10] for label in range(10)])
    return DistilledSet(
        data.train.load(positions.tolist()),
        data.train.labels[positions],
        torch.ones(100),
        data.classes.names,
    )


def evaluate(distilled, data, teacher, name: str = "unified", **options: Any) -> Outcome:
    overrides = {"flip": False, **options.pop("overrides", {})}
    training = TrainingSet.of(distilled, load_recipe(name, overrides), data.mean, data.std)
    student, seed = options.pop("student", OwnStudent("small")), options.pop("seed", 0)
    return evaluate_student(training, data, teacher, student, seed=seed, run=Run(CPU, **options))


def test_a_student_learns_digits_from_the_teacher(distilled, data, teacher):
    outcome = evaluate(distilled, data, teacher, overrides={"epochs": 100})
    assert outcome.top1_last > 0.8
    assert outcome.top5_last > 0.97
    assert [entry["epoch"] for entry in outcome.curve] == list(range(10, 101, 10))
    assert outcome.steps == 200
    assert (outcome.effective_batch, outcome.global_batch, outcome.world_size) == (50, 50, 1)
    assert outcome.params == sum(p.numel() for p in convnet().parameters())
    assert outcome.seconds > 0
    losses = [entry["train_loss"] for entry in outcome.curve]
    assert losses[-1] < losses[0]


def test_a_student_learns_digits_from_hard_labels(distilled, data):
    outcome = evaluate(
        distilled, data, None, "hard", overrides={"epochs": 60, "crop_scale": [0.5, 1.0]}
    )
    assert outcome.top1_last > 0.6
    assert outcome.effective_batch == 100  # the whole set, smaller than the recipe's 128


def test_same_seed_same_outcome_whatever_was_drawn_before(distilled, data, teacher):
    outcomes = []
    for state in (1, 2):
        torch.manual_seed(state)
        outcomes.append(
            replace(evaluate(distilled, data, teacher, overrides={"epochs": 6}), seconds=0)
        )
    assert outcomes[0] == outcomes[1]
    other = evaluate(distilled, data, teacher, seed=1, overrides={"epochs": 6})
    assert other.curve != outcomes[0].curve


def test_the_callers_random_state_is_left_alone(distilled, data):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate(distilled, data, None, "hard", overrides={"epochs": 1})
    assert torch.equal(torch.rand(3), expected)


def test_testing_more_often_changes_no_result(distilled, data):
    student = OwnStudent("small", kwargs={"dropout": 0.5})
    often, seldom = (
        evaluate(
            distilled, data, None, "hard", student=student, overrides={"epochs": 5}, eval_every=k
        )
        for k in (1, 5)
    )
    assert often.curve[-1] == seldom.curve[-1]
    assert len(often.curve) == 5
    assert len(seldom.curve) == 1


@pytest.mark.parametrize(
    ("epochs", "every", "tested"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 9, [2])]
)
def test_the_last_epoch_is_always_tested(distilled, data, epochs, every, tested):
    outcome = evaluate(
        distilled, data, None, "hard", overrides={"epochs": epochs}, eval_every=every
    )
    assert [entry["epoch"] for entry in outcome.curve] == tested
    assert outcome.steps == epochs


def test_epochs_and_batch_follow_the_set(distilled, data):
    # 10 images of each of 10 classes: from 3 images per class on 4 epochs, from 5 classes on batches of 40.
    overrides = {"epochs": {1: {1: 9, 3: 4}}, "batch_size": {1: {1: 7}, 5: {1: 40}}}
    outcome = evaluate(distilled, data, None, "hard", overrides=overrides)
    assert (outcome.epochs, outcome.effective_batch, outcome.steps) == (4, 40, 12)
    assert outcome.curve[-1]["epoch"] == 4


def test_last_and_best_differ(distilled, data, monkeypatch):
    top1, top5 = iter([0.2, 0.6, 0.4, 0.6, 0.3]), iter([0.7, 0.8, 0.9, 0.95, 0.85])

    def scripted(self: StudentModule) -> None:
        entry = {"epoch": self.current_epoch + 1, "top1": next(top1), "top5": next(top5)}
        self.curve.append(entry)

    monkeypatch.setattr(StudentModule, "on_validation_epoch_end", scripted)
    outcome = evaluate(distilled, data, None, "hard", overrides={"epochs": 5}, eval_every=1)
    assert (outcome.top1_last, outcome.top5_last) == (0.3, 0.85)
    assert (outcome.top1_best, outcome.top5_best, outcome.best_epoch) == (0.6, 0.8, 2)


def test_batch_size_changes_nothing_but_the_batches(distilled, data):
    # The set is one batch for both, so that the very same images must be seen.
    small, large = (
        evaluate(distilled, data, None, "hard", overrides={"epochs": 3, "batch_size": size})
        for size in (100, 1024)
    )
    assert small.curve == large.curve


def test_learning_rate_of_student_beats_recipe(distilled, data):
    by_arch = {"epochs": 1, "lr_by_arch": {"small": 0.02}}
    curves = [
        evaluate(distilled, data, None, "hard", student=student, overrides=overrides).curve
        for student, overrides in (
            (OwnStudent("small", lr=0.02), {"epochs": 1}),
            (OwnStudent("small"), by_arch),
            (OwnStudent("small", lr=0.001), by_arch),
        )
    ]
    assert [curve[-1]["lr"] for curve in curves] == [0.02, 0.02, 0.001]
    assert curves[0] == curves[1]


def test_a_stage_shows_its_images_and_those_before_it(distilled, data, monkeypatch):
    stages = torch.arange(100) % 2
    staged = replace(
        distilled,
        stages=stages,
        form=SetForm(recipe=SetRecipe("dsa", lr=0.02, stage_lrs=(0.05, 0.02))),
    )
    seen: dict[int, set[int]] = {}
    step = StudentModule.training_step

    def spied(self, batch, batch_idx):
        seen.setdefault(self.current_epoch, set()).update(batch.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(StudentModule, "training_step", spied)
    given = {"epochs": 2, "staged": True, "batch_size": 20, "lr": "set", "gamma": 0.5}
    outcome = evaluate(staged, data, None, "dc", overrides=given, eval_every=1)
    assert [sorted(part) for part in seen.values()] == [list(range(0, 100, 2))] * 2 + [
        list(range(100))
    ] * 2
    assert [entry["lr"] for entry in outcome.curve] == [0.05, 0.025, 0.02, 0.01]  # each anew
    assert (outcome.steps, outcome.epochs) == (2 * 3 + 2 * 5, 4)
    flat = evaluate(staged, data, None, "dc", overrides={**given, "staged": False, "epochs": 3})
    assert flat.flops == outcome.flops  # 3 x 100 images are 2 x 50 and 2 x 100


def test_nothing_is_said(distilled, data, capfd):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(distilled, data, None, "hard", overrides={"epochs": 2})
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")


def test_parts_that_do_not_fit(distilled, data, teacher):
    hard, soft = load_recipe("hard", {"epochs": 1}), load_recipe("unified")
    fewer = replace(distilled, class_names=[*distilled.class_names, "digit 10"])
    swapped = replace(distilled, class_names=distilled.class_names[::-1])
    larger = replace(distilled, images=distilled.images.repeat(1, 1, 2, 2))
    wrong_teacher = SmallTeacher()
    wrong_teacher.num_classes = 7
    no_norm = SmallTeacher()
    no_norm.arch, no_norm.network = "plain", nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    by_batch = load_recipe("unified", {"teacher_mode": "train", "epochs": 1})
    for broken, recipe, judge, options, message in (
        (fewer, hard, None, {}, "11 classes, small-digits has 10"),
        (swapped, hard, None, {}, "another order"),
        (larger, hard, None, {}, "16 x 16 pixels.*image_size 8"),
        (distilled, soft, None, {}, "'unified' needs a teacher"),
        (distilled, soft, wrong_teacher, {}, "teacher knows 7 classes"),
        (distilled, by_batch, no_norm, {}, "the teacher plain has no batch normalisation"),
        (distilled, hard, None, {"eval_every": 0}, "eval_every must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_student(
                TrainingSet.of(broken, recipe),
                data,
                judge,
                OwnStudent("small"),
                seed=0,
                run=Run(CPU, **options),
            )
