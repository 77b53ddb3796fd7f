"""What the configurations of known datasets say untouched: their data, priors, students and recipes."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.cli import main
from benchmarks.layers import resolve
from benchmarks.recipes import load_recipe
from benchmarks.students import Student
from ddoq import data as datasets
from ddoq.data import ClassRegistry, imagenet_indices, load_registry

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


def one_of_each_layering() -> list[Path]:
    """Choose files such that every shared part is read once with every other that it meets."""
    chosen = {}
    for folder in FOLDERS:
        for file in sorted((CONFIGS / folder).glob("*.yaml")):
            chosen.setdefault(tuple(resolve(file)[:-1]), file)
    return list(chosen.values())


@pytest.mark.parametrize(
    "file", one_of_each_layering(), ids=lambda path: str(path.relative_to(CONFIGS))
)
def test_the_parser_takes_the_untouched_file(file):
    """Everything in it, but the run itself, is what a user gets."""
    printed = io.StringIO()
    with redirect_stdout(printed), pytest.raises(SystemExit) as end:
        main(["fit", "--config", str(file), "--print_config"])
    assert end.value.code in (0, None)
    shown = yaml.safe_load(printed.getvalue())
    assert shown["data"]["init_args"]["registry"] == FOLDERS[file.parent.name]


@pytest.mark.parametrize("folder", FOLDERS)
def test_data_can_be_built_and_names_its_registry(folder):
    block = read(CONFIGS / folder / "parts" / "dataset.yaml")["data"]
    module = getattr(datasets, block["class_path"])(**block["init_args"])
    assert module.registry == module.name == FOLDERS[folder]


@pytest.mark.parametrize(("folder", "registry"), FOLDERS.items())
def test_diffusion_transformers_are_asked_for_the_right_classes(folder, registry):
    if "cifar" in registry:
        assert not (
            CONFIGS / folder / "ddoq_dit.yaml"
        ).exists()  # CIFAR's classes are not ImageNet's
        return
    files = resolve(CONFIGS / folder / "ddoq_dit.yaml")
    told = [read(file).get("prior", {}).get("init_args", {}).get("classes") for file in files]
    numbers = next((given for given in told if given is not None), list(range(1000)))
    assert numbers == imagenet_indices(load_registry(registry))


class Shape:
    """What a student asks of its data."""

    def __init__(self, folder: str) -> None:
        block = read(CONFIGS / folder / "parts" / "dataset.yaml")["data"]["init_args"]
        self.image_size = block["image_size"]
        self.classes: ClassRegistry = load_registry(FOLDERS[folder])
        self.num_classes = len(self.classes)
        self.mean, self.std = (0.5,) * 3, (0.2,) * 3


@pytest.mark.parametrize("folder", FOLDERS)
def test_students_and_teachers_can_be_built_at_that_size(folder):
    content, shape = read(CONFIGS / folder / "parts" / "dataset.yaml"), Shape(folder)
    teacher = content["teacher"]["init_args"]
    nets = [Student(**item) for item in content["students"]]
    for net in [*nets, Student(teacher["arch"], stem=teacher.get("stem"))]:
        with torch.device("meta"):  # shapes without weights
            logits = net.build(shape).eval()(torch.empty(2, 3, shape.image_size, shape.image_size))
        assert logits.shape == (2, shape.num_classes), net.label


@pytest.mark.parametrize("folder", FOLDERS)
def test_recipes_exist_and_plan_every_budget_of_the_suite(folder):
    block = read(CONFIGS / folder / "parts" / "dataset.yaml")["recipe"]
    recipe = load_recipe(block["name"], block.get("overrides", {}))
    suite = CONFIGS / "suites" / f"{folder}.yaml"
    if suite.exists():
        shape = Shape(folder)
        for ipc in read(suite)["grid"]["model.init_args.ipc"]:
            plan = recipe.plan(
                num_classes=shape.num_classes,
                ipc=ipc,
                n=ipc * shape.num_classes,
                image_size=shape.image_size,
            )
            assert 1 <= plan.batch_size <= ipc * shape.num_classes


def test_the_grid_of_the_papers_is_planned():
    content = read(CONFIGS / "suites" / "imagenet1k.yaml")
    assert content["grid"]["model.init_args.ipc"] == [10, 50, 100, 200]
    assert content["seeds"] == [0, 1, 2]
