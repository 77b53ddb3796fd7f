"""What rows say of themselves: a student or a teacher that guesses, and images that are all alike."""

import json

import pytest
import torch

from benchmarks.cli import main
from benchmarks.results.files import read_results
from benchmarks.run.warnings import (
    network_warnings,
    set_warnings,
    student_warnings,
    teacher_warnings,
)
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.finite import NotFiniteError
from ddoq.networks import build_network
from ddoq.teachers import PretrainedTeacher, Teacher

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}


def make_teacher(data, accuracy=0.9, spoil=None) -> Teacher:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("convnet2-w8", data.num_classes, data.image_size)
    if spoil is not None:
        spoil(network)
    return Teacher(
        network,
        arch="convnet2-w8",
        class_names=data.classes.names,
        class_keys=data.classes.keys,
        image_size=data.image_size,
        accuracy=accuracy,
    )


def constant(network) -> None:
    """Answer the second class whatever is shown."""
    *_, weight, bias = network.parameters()
    weight.data.zero_()
    bias.data.zero_()[1] = 1.0


@pytest.fixture
def data(coloured_noise):
    return coloured_noise()


def test_students_at_chance(data):
    n, rate = len(data.test), 1 / 3
    (text,) = student_warnings(rate, data)
    assert "the student is at chance: guessing explains up to" in text
    assert f"of {n} test images, it has 33.3%" in text
    assert student_warnings(1.0, data) == []


def test_a_frequent_class_raises_what_guessing_explains(data, monkeypatch):
    monkeypatch.setattr(data.test, "labels", torch.tensor([0] * 90 + [1] * 5 + [2] * 5))
    assert student_warnings(0.9, data) != []


@pytest.mark.parametrize(
    ("arch", "recipe", "warns"),
    [
        ("convnet2-w8", "frepo", True),
        ("convnet2-w8-bn", "frepo", True),
        ("convnet2-w8-nonorm", "frepo", False),
        ("convnet2-w8", "dsa", False),  # which promises nothing about networks
    ],
)
def test_students_with_norm_layers_under_a_recipe_without(data, arch, recipe, warns):
    metadata = {"method": "frepo", "students": "convnet2-w8-doubling-nonorm"}
    form = SetForm(recipe=SetRecipe("frepo"))
    images, labels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3)
    distilled = DistilledSet(images, labels, torch.ones(3), data.classes.names, metadata, form=form)
    texts = network_warnings(Student(arch), distilled, load_recipe(recipe), data)
    assert bool(texts) is warns
    if warns:
        assert "the student has norm layers" in texts[0]
        assert "frepo train convnet2-w8-doubling-nonorm" in texts[0]
    bare = DistilledSet(images, labels, torch.ones(3), data.classes.names, {}, form=form)
    assert network_warnings(Student(arch), bare, load_recipe(recipe), data) == []


def test_teachers_at_chance(data):
    assert teacher_warnings(make_teacher(data), 0.5, data) == []
    assert teacher_warnings(make_teacher(data), None, data) == []
    (real,) = teacher_warnings(make_teacher(data, accuracy=0.3), 0.5, data)
    assert real.startswith("the teacher convnet2-w8 is at chance: ")
    (distilled,) = teacher_warnings(make_teacher(data), float(torch.tensor(1 / 3)), data)
    assert (
        "recognises 33.3% of the distilled images, which is not above chance (33.3%)" in distilled
    )


def test_a_teacher_with_one_answer_is_told_when_it_is_opened(data, tmp_path, capsys):
    make_teacher(data, spoil=constant).save(tmp_path)
    teacher = PretrainedTeacher(str(tmp_path)).obtain(data, tmp_path / "cache", TRAINER)
    (text,) = teacher.warnings
    name = data.classes.names[1]
    assert text.startswith(f"the teacher convnet2-w8 gives one answer, '{name}', to all ")
    assert capsys.readouterr().out.count(f"warning: {text}") == 1
    assert teacher_warnings(teacher, 0.5, data) == [text]


def test_a_teacher_whose_logits_overflow_is_refused(data, tmp_path):
    def overflow(network) -> None:
        *_, weight, _ = network.parameters()
        weight.data.fill_(3e38)

    make_teacher(data, spoil=overflow).save(tmp_path)
    with pytest.raises(NotFiniteError, match="gives logits that are not finite"):
        PretrainedTeacher(str(tmp_path)).obtain(data, tmp_path / "cache", TRAINER)


def test_sets_of_equal_images():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    distilled = DistilledSet(images, torch.tensor([0, 1]), torch.ones(2), ["cat", "dog"])
    assert set_warnings(distilled) == ["all 2 images of the set are (nearly) equal"]


def test_warnings_are_told_once_stored_and_noted_in_the_tables(tmp_path, capsys):
    """A rate at which nothing is learnt: the row is valid, and says what it is worth."""
    config = tmp_path / "config.json"
    content = {
        "data": {"class_path": "Digits", "init_args": {"limit_per_class": 4}},
        "model": {"class_path": "RandomSelection", "init_args": {"ipc": 1}},
        "recipe": {"name": "hard", "overrides": {"epochs": 1, "lr": 1e-12}},
        "students": [{"arch": "convnet2-w8"}],
        "trainer": {"accelerator": "cpu"},
        "wandb": {"mode": "disabled"},
    }
    config.write_text(json.dumps(content))
    fit = ["fit", "--config", str(config), "--output", str(tmp_path / "runs")]
    assert main(fit) == 0
    printed = capsys.readouterr().out
    (result,), problems = read_results(tmp_path / "runs" / "results")
    assert problems == []
    (text,) = result.warnings
    assert "the student is at chance" in text
    assert printed.count(f"warning: {text}") == 1
    assert main(fit) == 0  # a row that is reused says it again
    assert capsys.readouterr().out.count(f"warning: {text}") == 1
    for layout in ("markdown", "html", "csv"):
        target = tmp_path / layout
        command = ["leaderboard", str(tmp_path / "runs"), "--format", layout]
        assert main([*command, "--output", str(target)]) == 0
        assert "the student is at chance" in target.read_text()
