"""What the configurations of known datasets say untouched: their data, priors, students and recipes."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.cli import main
from benchmarks.configuration.layers import resolve
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from ddoq import data as datasets
from ddoq import teachers
from ddoq.data import ClassRegistry, imagenet_indices, load_registry
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.teachers.weights import find_preset

CONFIGS = Path(__file__).parent.parent.parent / "configs"
FOLDERS = {
    "imagenet1k": "imagenet-1k",
    "imagenet100": "imagenet-100",
    "imagenette": "imagenette",
    "imagewoof": "imagewoof",
    "tiny_imagenet": "tiny-imagenet",
    "cifar100": "cifar100",
    "cifar10": "cifar10",
}


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def dataset(folder: str) -> Path:
    return CONFIGS / "datasets" / f"{folder}.yaml"


def layered(path: Path) -> dict:
    """Merge the top-level keys of a file and of what it extends."""
    return {key: value for file in resolve(path) for key, value in read(file).items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_parser_takes_the_untouched_file(folder):
    """Everything in it, but the run itself, is what a user gets."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(dataset(folder)), "--print_config"])
    assert end.value.code in (0, None)
    shown = yaml.safe_load(printed.getvalue())
    assert shown["data"]["init_args"]["registry"] == FOLDERS[folder]


@pytest.mark.parametrize("folder", FOLDERS)
def test_data_can_be_built_and_names_its_registry(folder):
    block = layered(dataset(folder))["data"]
    module = getattr(datasets, block["class_path"])(**block["init_args"])
    assert module.registry == module.name == FOLDERS[folder]


# Numbers of the published lists among ImageNet-1K's classes, typed from these lists: the first ones, and how many.
NUMBERS = {
    "imagenet1k": (1000, list(range(1000))),
    "imagenet100": (100, [15, 45, 54, 57, 64, 74, 90, 99, 119, 120]),
    "imagenette": (10, [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]),
    "imagewoof": (10, [155, 159, 162, 167, 182, 193, 207, 229, 258, 273]),
    "tiny_imagenet": (200, [1, 25, 30, 32, 50, 61, 69, 71, 75, 76]),
}


@pytest.mark.parametrize("folder", NUMBERS)
def test_diffusion_transformers_are_asked_for_the_right_classes(folder):
    prior = layered(CONFIGS / "methods" / "ddoq_dit.yaml")["prior"]
    assert prior["init_args"]["classes"] == "imagenet"
    sampler = {"variance_type": "learned_range", "timestep_spacing": "linspace"}  # DiT's own
    assert prior["init_args"]["scheduler"] == "DDPMScheduler"
    assert sampler.items() <= prior["init_args"]["scheduler_settings"].items()
    assert prior["init_args"]["guided_channels"] == 3
    count, first = NUMBERS[folder]
    numbers = imagenet_indices(load_registry(FOLDERS[folder]))
    assert (len(numbers), numbers[: len(first)]) == (count, first)
    assert "ddoq_dit" in read(CONFIGS / "suites" / f"{folder}.yaml")["methods"]


@pytest.mark.parametrize("folder", ["cifar10", "cifar100"])
def test_other_classes_are_not_imagenets(folder):
    with pytest.raises(UserError):
        imagenet_indices(load_registry(FOLDERS[folder]))


@pytest.mark.parametrize("folder", ["imagenet1k", "imagenet100", "imagenette", "imagewoof"])
def test_teachers_of_imagenet_are_the_papers_weights_cut_to_the_classes(folder):
    block = layered(dataset(folder))["teacher"]
    source = getattr(teachers, block["class_path"])(**block["init_args"])
    preset = find_preset(source.arch, source.weights)
    assert (preset.outputs, preset.image_size) == (1000, Shape(folder).image_size)
    assert (source.classes == "imagenet") == (folder != "imagenet1k")


class Shape:
    """What a student asks of its data."""

    def __init__(self, folder: str) -> None:
        block = layered(dataset(folder))["data"]["init_args"]
        self.image_size = block["image_size"]
        self.classes: ClassRegistry = load_registry(FOLDERS[folder])
        self.num_classes = len(self.classes)
        self.mean, self.std = (0.5,) * 3, (0.2,) * 3


@pytest.mark.parametrize("folder", FOLDERS)
def test_students_and_teachers_can_be_built_at_that_size(folder):
    content, shape = layered(dataset(folder)), Shape(folder)
    teacher = content["teacher"]["init_args"]
    side, classes = shape.image_size, shape.num_classes
    with torch.device("meta"):  # shapes without weights
        made = {item["name"]: Student(**item).build(shape) for item in content["students"]}
        made["teacher"] = build_network(teacher["arch"], classes, side, stem=teacher.get("stem"))
        for name, net in made.items():
            assert net.eval()(torch.empty(2, 3, side, side)).shape == (2, classes), name


@pytest.mark.parametrize("folder", FOLDERS)
def test_recipes_exist_and_plan_every_budget_of_the_suite(folder):
    block = layered(dataset(folder))["recipe"]
    recipe = load_recipe(block["name"], block.get("overrides", {}))
    suite = CONFIGS / "suites" / f"{folder}.yaml"
    if suite.exists():
        shape = Shape(folder)
        for ipc in read(suite)["ipc"]:
            plan = recipe.plan(
                num_classes=shape.num_classes,
                ipc=ipc,
                n=ipc * shape.num_classes,
                image_size=shape.image_size,
            )
            assert 1 <= plan.batch_size <= ipc * shape.num_classes


def test_the_grid_of_the_papers_is_planned():
    content = read(CONFIGS / "suites" / "imagenet1k.yaml")
    assert content["ipc"] == [10, 50, 100, 200]
    assert content["seeds"] == [0, 1, 2]
