"""What a run refuses before its work, and what it says after it."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from torch import nn

from benchmarks.results.files import write_failure, write_result
from benchmarks.run.checks import check_classes, check_failures, check_labels, check_students
from benchmarks.run.ranks import EvaluationOptions
from benchmarks.students.student import Student
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers import Teacher

SMALL = Student("convnet2-w8")
OPTIONS = EvaluationOptions()


@pytest.fixture
def data(coloured_noise):
    return coloured_noise(classes=3, per_class=4)


@pytest.fixture
def distilled(data):
    chosen = torch.cat([data.train.of_class(label)[:2] for label in range(3)])
    images, labels = data.train.load(chosen.tolist()), data.train.labels[chosen]
    metadata = {"class_keys": data.classes.keys}
    return DistilledSet(images, labels, torch.ones(6), data.classes.names, metadata)


@pytest.mark.parametrize(
    ("students", "seeds", "told"),
    [
        ([], [0], "give the key `students`"),
        ([SMALL], [], "`seeds` must list at least one"),
        (
            [SMALL, Student("convnet2-w8", name="other")],
            [0],
            "convnet2-w8 and other differ in their names alone",
        ),
        ([SMALL], [1, 1], "the seed 1 is listed twice"),
        ([SMALL, SMALL], [0], "Two students share a name: convnet2-w8, convnet2-w8"),
        ([Student("resnet_18")], [0], "resnet18"),
    ],
)
def test_students_that_cannot_be_trained_are_refused(data, trainer, students, seeds, told):
    with pytest.raises(UserError, match=told):
        check_students(students, seeds, data, trainer, OPTIONS)


def test_checking_leaves_random_numbers_alone(data, trainer):
    torch.manual_seed(3)
    check_students([SMALL], [0, 1], data, trainer, OPTIONS)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(2))


@pytest.mark.parametrize(("ranks", "refused"), [("ddp", True), ("independent", False)])
def test_only_students_of_all_ranks_need_synchronised_statistics(data, ranks, refused):
    two = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, barebones=True)
    students, options = [Student("convnet2-w8-bn")], EvaluationOptions(ranks)
    if refused:
        with pytest.raises(UserError, match="sync_batchnorm to false"):
            check_students(students, [0], data, two, options)
    check_students(students, [0], data, two, replace(options, sync_batchnorm=False))


def test_a_set_of_other_classes_is_refused(data, distilled, coloured_noise, tmp_path):
    check_classes(distilled, tmp_path, data)
    with pytest.raises(UserError, match="other classes"):
        check_classes(distilled, tmp_path, coloured_noise(classes=4))
    turned = {**distilled.metadata, "class_keys": data.classes.keys[::-1]}
    with pytest.raises(UserError, match="another order"):
        check_classes(replace(distilled, metadata=turned), tmp_path, data)


class Nearest(nn.Module):
    """Knows the mean colour of each class."""

    def __init__(self, data):
        super().__init__()
        images = [to_float(data.train.load(data.train.of_class(k).tolist())) for k in range(3)]
        self.register_buffer("colours", torch.stack([part.mean((0, 2, 3)) for part in images]))

    def forward(self, images):
        return -torch.cdist(images.mean((2, 3)), self.colours)


def teacher(data) -> Teacher:
    size = data.image_size
    values = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "image_size": size, "accuracy": 0.9}
    names = {"class_names": data.classes.names, "class_keys": data.classes.keys}
    return Teacher(Nearest(data), arch="colours", kwargs={}, stem=None, **names, **values)


def test_labels_are_compared_with_what_the_teacher_sees(data, distilled, capsys):
    accuracies = check_labels(teacher(data), distilled)
    assert accuracies == {"accuracy_real": 0.9, "accuracy_distilled": 1.0}
    assert "90.00% on real test images, 100.00% on distilled images" in capsys.readouterr().out
    turned = DistilledSet(
        distilled.images.repeat(20, 1, 1, 1),
        (distilled.labels.repeat(20) + 1) % 3,
        torch.ones(120),
        distilled.class_names,
    )
    with pytest.raises(UserError, match="order"):
        check_labels(teacher(data), turned)


def test_students_that_failed_end_the_run(tmp_path, result_of):
    run = RunFolder(tmp_path)
    done, lost = result_of(seed=0), result_of(seed=1)
    write_result(run.results, done)
    cells = {done.config_hash, lost.config_hash}
    check_failures(run, {done.config_hash}, [done], "2000")
    with pytest.raises(UserError, match=r"^1 of 2 students failed; see .*failures"):
        check_failures(run, cells, [done], "2000")
    write_failure(run.failures, done.cell, "no room", done.config)
    check_failures(run, {done.config_hash}, [done], "3000")  # it failed before this run
    told = r"1 of 1 students failed \(1 of them keep the result of an earlier run\)"
    with pytest.raises(UserError, match=told):
        check_failures(run, {done.config_hash}, [done], "2000")
