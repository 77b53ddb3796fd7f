"""NaN and infinity are refused as the value of any number that a configuration can set, under its key."""

import dataclasses
import inspect
import json
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

import baselines  # noqa: F401 - registers the methods
import ddoq.ddoq  # noqa: F401
from baselines.bilp import LossRanking
from baselines.dm import DM
from baselines.glad import PriorDecoder
from benchmarks.cli import main
from benchmarks.graphs.protocol import GraphProtocol
from benchmarks.run.bench import RecipeChoice
from benchmarks.run.ranks import EvaluationOptions
from benchmarks.students.recipe import Recipe
from benchmarks.students.recipes import load_recipe
from benchmarks.students.student import Student
from benchmarks.suites.file import read_suite
from benchmarks.tracking.loggers import WandbOptions
from benchmarks.transfer.protocol import TransferProtocol
from ddoq.data import LabelledData
from ddoq.decoding.form import SetRecipe
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.errors import UserError
from ddoq.graphs import GraphEmbedding
from ddoq.latents.quantization import Quantizer
from ddoq.priors import DiTConfig, PriorSource, Sampling, VAEConfig
from ddoq.self_supervised import BarlowTwins
from ddoq.teachers import TeacherSource
from ddoq.trajectories import ExpertTrajectories

WRONG = (float("nan"), float("inf"), -float("inf"))
ROOTS = (Distiller, LabelledData, PriorSource, TeacherSource, Ingredient)
RECORDS = (
    *(Student, RecipeChoice, EvaluationOptions, WandbOptions, Recipe, SetRecipe),
    *(VAEConfig, DiTConfig, Sampling, Quantizer, TransferProtocol, GraphProtocol),
)
# Arguments without a default, and those without which a number has no meaning.
NEEDED: dict[str, Any] = {
    "ipc": 1,
    "base": DM(1),
    "ranking": LossRanking(),
    "experts": ExpertTrajectories(),
    "target_model": BarlowTwins(),
    "arch": "resnet18",
    "name": "unified",
    "path": "somewhere",
    "root": "somewhere",
    "dataset_name": "a",
    "image_size": 16,
    "dataset": "MUTAG",
    "embedding": GraphEmbedding(),
    "generator": PriorDecoder(),
}
WHOLE = {
    Recipe: dataclasses.asdict(load_recipe("unified")),
}
TOGETHER = {"PretrainedTeacher": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}
# Where infinity means something; with the reason. There is no such number yet.
LEGAL: dict[str, str] = {}


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def registered() -> list[type]:
    """All classes that a configuration can name: ours, no tests' toys, nothing abstract."""
    classes = set().union(*(subclasses(root) for root in ROOTS))
    ours = [c for c in classes if c.__module__.partition(".")[0] in ("ddoq", "baselines")]
    return sorted((c for c in ours if not inspect.isabstract(c)), key=lambda c: c.__qualname__)


def wrong_values(hint: Any, value: float) -> list[Any]:
    """Put a wrong number wherever an annotation has room for one."""
    if hint is float:
        return [value]
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [wrong for part in parts for wrong in wrong_values(part, value)]
    if origin is tuple:
        length = 3 if len(parts) > 2 else 2
        inner = wrong_values(parts[0], value)
        return [tuple([wrong] + [0.5] * (length - 1)) for wrong in inner]
    if origin is dict:
        return [{1 if parts[0] is int else "x": wrong} for wrong in wrong_values(parts[1], value)]
    if origin is list:
        return [[wrong] for wrong in wrong_values(parts[0], value)]
    return [value] if hint is Any else []


def cases() -> list[tuple[type, str, Any]]:
    found = []
    for kind in (*registered(), *RECORDS):
        hints = get_type_hints(kind.__init__)
        for name in inspect.signature(kind.__init__).parameters:
            for value in WRONG:
                found += [(kind, name, wrong) for wrong in wrong_values(hints.get(name), value)]
    return [case for case in found if f"{case[0].__name__}.{case[1]}" not in LEGAL]


CASES = cases()


def test_the_walk_reaches_what_it_should():
    reached = {f"{kind.__name__}.{name}" for kind, name, _ in CASES}
    for name in (
        *("MTT.step_size", "FTD.ema", "SATM.rho", "ExpertTrajectories.alpha"),
        *("DM.lr", "DC.lr_net", "SRe2L.crop_scale", "DDOQ.weight_power", "Digits.std"),
        *("ImageFolderImages.mean", "TrainedTeacher.weight_decay", "PretrainedTeacher.mean"),
        *("DiTConfig.learning_rate", "Sampling.guidance_scale", "Recipe.lr_by_arch"),
        *("Student.lr", "Student.kwargs", "RecipeChoice.overrides", "SetRecipe.lr"),
    ):
        assert name in reached


@pytest.mark.parametrize(
    ("kind", "name", "wrong"), CASES, ids=[f"{k.__name__}.{n}-{w}" for k, n, w in CASES]
)
def test_a_number_that_is_not_finite_is_refused_under_its_key(kind, name, wrong):
    names = inspect.signature(kind.__init__).parameters
    given = WHOLE.get(kind) or {key: NEEDED[key] for key in NEEDED if key in names}
    given = {**given, **TOGETHER.get(kind.__name__, {})}
    with pytest.raises(UserError, match=rf"\b{name}\b"):
        kind(**{**given, name: wrong})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.init_args.sampling.guidance_scale", r"guidance_scale"),
        ("recipe.overrides.lr", "recipe.overrides.lr"),
        ("data.init_args.std", "data.init_args.std.0"),
        ("trainer.gradient_clip_val", "trainer.gradient_clip_val"),
        ("prior.init_args.dit.learning_rate", r"learning_rate"),
    ],
)
@pytest.mark.parametrize("value", [".nan", ".inf"])
def test_yaml_says_it_under_its_whole_key(tmp_path, capsys, key, message, value):
    content: Any = f"[{value}, 0.5, 0.5]" if key.endswith("std") else value
    lines = [f"{'  ' * depth}{part}:" for depth, part in enumerate(key.split("."))]
    classes = {"model": "DDOQ", "data": "Digits", "prior": "TrainedPrior"}
    first = key.partition(".")[0]
    text = "\n".join(lines) + f" {content}\n"
    if first in classes:
        text = text.replace(f"{first}:\n", f"{first}:\n  class_path: {classes[first]}\n")
    file = tmp_path / "config.yaml"
    file.write_text(text)
    base = tmp_path / "base.yaml"
    base.write_text(json.dumps({"data": {"class_path": "Digits"}, "model": {"class_path": "DDOQ"}}))
    run = ["fit", "--config", str(base), "--config", str(file), "--model.ipc", "1"]
    assert main([*run, "--output", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "nan" in error or "inf" in error
    assert not (tmp_path / "runs").exists()


def test_a_grid_says_it_too(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(
        "datasets: [digits]\nmethods: [random]\nstudents: [{arch: resnet18}]\nseeds: [0]\n"
        "grid: {recipe.overrides.lr: [0.1, .nan]}\n"
    )
    with pytest.raises(UserError, match=r"recipe\.overrides\.lr\.1 must be a finite number"):
        read_suite(path)
