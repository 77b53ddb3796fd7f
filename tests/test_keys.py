"""Which key of a configuration changes which cache: every one is changed, and for every stage it is held what follows.

Nothing is trained. What a stage would make has the key of the stage as its fingerprint, so that a change goes on to
whatever is made of it.
"""

import dataclasses
import functools
import inspect
import itertools
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from key_table import EXPECTED, RIDERS, SET, STAGES, VAE, VALUES
from PIL import Image

import baselines  # noqa: F401 - registers the methods
from benchmarks.commands.configured import configure
from benchmarks.configuration.keys import KEYS
from benchmarks.run.cells import CellRunner
from benchmarks.students.recipe import Recipe
from benchmarks.students.recipes import load_recipe
from benchmarks.students.stored_labels import LabelRecord
from benchmarks.students.student import Student
from benchmarks.students.training_set import TrainingSet
from ddoq.data import (
    Digits,
    FashionMNIST,
    HuggingFaceImages,
    ImageDataModule,
    ImageFolderImages,
)
from ddoq.ddoq import DDOQ
from ddoq.distillation.arguments import hashed
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.tables import at_budget
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.latents.cache import LatentCache
from ddoq.latents.distiller import LatentDistiller
from ddoq.latents.quantization import Quantizer
from ddoq.networks import build_network
from ddoq.priors import PretrainedPrior, TrainedPrior, VAEConfig
from ddoq.self_supervised import BarlowTwins
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.records import hashed_fields
from ddoq.teachers import PretrainedTeacher, Teacher, TrainedTeacher
from ddoq.teachers.pretrained import _find_weights
from ddoq.trajectories import ExpertTrajectories


class Stub(torch.nn.Module):
    """A prior without networks, known by the keys of its stages."""

    latent_shape = (4, 4, 4)
    image_size = 16

    def __init__(self, autoencoder: str, prior: str) -> None:
        super().__init__()
        self.encoder_fingerprint, self.fingerprint = autoencoder, prior


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An image folder of two classes, with other images in both splits."""
    root = tmp_path_factory.mktemp("photographs")
    for number, (split, name, image) in enumerate(
        itertools.product(("train", "val"), ("a", "b"), range(3))
    ):
        path = root / split / name / f"{image}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 5, 5)).save(path)
    return root


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two parquet files of those images, with two columns each for images and labels; one class is in one alone."""
    root = tmp_path_factory.mktemp("tables")
    files = {}
    for name, labels in (("train", [0, 1, 0, 1, 0, 1]), ("test", [1, 0, 1, 0])):
        pixels = [np.full((16, 16, 3), 20 * i + len(labels), np.uint8) for i in range(len(labels))]
        images = [Image.fromarray(p) for p in pixels]
        columns = {"image": images, "image2": images[::-1], "label": labels, "label2": labels[::-1]}
        kinds = {name: datasets.Image() for name in ("image", "image2")}
        kinds |= {name: datasets.ClassLabel(names=["a", "b"]) for name in ("label", "label2")}
        table = datasets.Dataset.from_dict(columns, datasets.Features(kinds))
        files[f"{name}_files"] = str(root / f"{name}.parquet")
        table.to_parquet(files[f"{name}_files"])
    return files


@pytest.fixture(scope="module")
def cli(folder, tmp_path_factory):
    """The parser with a whole configuration: every part, named classes, stored labels."""
    parts = [
        "--data=ImageFolderImages",
        *(f"--data.root={folder}", "--data.dataset_name=toy", "--data.image_size=16"),
        *("--prior=TrainedPrior", "--teacher=TrainedTeacher", "--model=DDOQ", "--model.ipc=2"),
        '--students=[{"arch": "convnet2-w8"}]',
        '--recipe.overrides={"labels": "stored", "label_top_k": 1, "epochs": 3}',
        *("--trainer.accelerator=cpu", f"--output={tmp_path_factory.mktemp('runs')}"),
    ]
    made = configure("fit", parts)
    made.resolved = dict  # dumping takes most of the time, and no key reads it
    return made


def bench_of(cli, changes):
    """Build what a configuration with other values describes."""
    before = cli.config
    cli.config = before.clone()
    try:
        for key, value in changes.items():
            cli.config[key] = value
        cli.instantiate_classes()
        return cli.bench()
    finally:
        cli.config = before


def keys_of(bench, recipe=None):
    """Return the key of every stage."""
    data = bench.dataset
    vae, prior = bench.prior_source.folders(data, Path())
    trained = hash_config(bench.teacher_source.settings_for(data))
    method = at_budget(bench.distiller, data.num_classes)
    method.data, stub = data, Stub(vae.name, prior.name)
    teacher = TEACHERS[data.num_classes]
    teacher.fingerprint = trained
    method.prior = stub if method.needs_prior else None
    method.teacher = teacher if method.needs_teacher else None
    for part in method.ingredients.values():  # known by its settings, as if it were prepared
        part._record = {"fingerprint": hash_config(hashed(part.settings()))}
    context = method.context()
    keys = {"autoencoder": vae.name, "prior": prior.name, "teacher": trained}
    if isinstance(method, LatentDistiller):
        given = {"posterior": method.posterior, "seed": method.seed}
        keys["latents"] = LatentCache(Path(), stub, data, **given).key
    keys |= {"shard": method.shard_key(context), "set": method.set_name(context)}
    settings = method.settings()
    contents = hash_config([settings, keys["shard"]])  # a set's images, labels and weights
    recipe = recipe or recipe_of(bench.recipe.name, json.dumps(bench.recipe.overrides))
    return keys | keys_of_students(bench, method, context, contents, teacher, recipe)


@functools.cache
def recipe_of(name, overrides):
    return load_recipe(name, json.loads(overrides))


def keys_of_students(bench, method, context, contents, teacher, recipe):
    """Return the keys of stored labels, and of the first student's cell."""
    data = bench.dataset
    labels = torch.arange(data.num_classes)
    images = torch.zeros(len(labels), 3, data.image_size, data.image_size, dtype=torch.uint8)
    record = {"method": method.method, "ipc": method.ipc, "seed": method.seed}
    record |= {"settings": method.settings(), "context": context}
    distilled = DistilledSet(images, labels, torch.ones(len(labels)), data.classes.names, record)
    training = TrainingSet.of(distilled, recipe, data.mean, data.std)
    training = dataclasses.replace(training, fingerprint=contents)
    runner = CellRunner(
        data,
        distilled,
        Path(),
        teacher,
        {},
        recipe,
        bench.wandb,
        Path(),
        bench.trainer_settings,
        {},
    )
    runner.__dict__["training"] = training
    cell = hash_config(runner.cell_config(bench.students[0], bench.seeds[0]))
    return {"labels": hash_config(hashed_fields(LabelRecord.of(training, teacher))), "cell": cell}


TEACHERS = {
    count: Teacher(
        build_network("convnet2-w8", num_classes=count, image_size=16),
        arch="convnet2-w8",
        class_names=[str(i) for i in range(count)],
        class_keys=[str(i) for i in range(count)],
        image_size=16,
        accuracy=0.5,
    )
    for count in (2, 4)
}


def expected(key, method=""):
    """Look a key up: its own entry, that of its class, or that of its group; none is a failure."""
    parts = key.split(".")
    groups = [".".join([*parts[:n], "*"]) for n in range(len(parts) - 1, 0, -1)]
    own = key.replace("model.", f"model.{method}.")
    entry = next((EXPECTED[name] for name in (own, key, *groups) if name in EXPECTED), None)
    assert entry is not None, f"{key} is missing in the table"
    return entry


def other_value(key, value, method=""):
    """Return another value of a key."""
    for name in (key.replace("model.", f"model.{method}."), key):
        if name in VALUES:
            return VALUES[name]
    if isinstance(value, bool):
        return not value
    assert isinstance(value, (int, float)), f"give {key} ({value!r}) another value in VALUES"
    return value + 1 if isinstance(value, int) else value * 0.8 + 0.013


def fields_of(kind, given):
    """List the arguments of a class as (name, value); of a dataclass among them its fields, as ``vae.steps``."""
    for name, parameter in inspect.signature(kind).parameters.items():
        value = given.get(name, parameter.default)
        if dataclasses.is_dataclass(value):
            yield from (
                (f"{name}.{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value)
            )
        else:
            yield name, value


def made_with(kind, given, name, value):
    """Make a part with another value of an argument, or of a field of one."""
    outer, _, inner = name.partition(".")
    if inner:
        default = given.get(outer, inspect.signature(kind).parameters[outer].default)
        value = dataclasses.replace(default, **{inner: value})
    return kind(**{**given, outer: value})


def hold(key, base, after, method=""):
    """Hold which stages have another key than before."""
    changed = {stage for stage in base if after[stage] != base[stage]}
    want = set(expected(key, method).split()) & set(base)
    assert changed == want, f"{method} {key}: {sorted(changed)} changed, not {sorted(want)}"


def walk(bench, part, group, kind, given, method="", without=()):
    """Change every argument of a part, one by one."""

    def keys_with(made):
        return keys_of(dataclasses.replace(bench, **{part: made}))

    base = keys_with(kind(**given))
    for name, value in fields_of(kind, given):
        key = f"{group}.{name}"
        if expected(key, method) == "refused":
            with pytest.raises(UserError):
                made_with(kind, given, name, other_value(key, value, method))
        elif name not in without:
            made = made_with(kind, given, name, other_value(key, value, method))
            hold(key, base, keys_with(made), method)


def test_every_top_level_key_has_an_entry():
    assert set(KEYS) == {key.partition(".")[0] for key in EXPECTED}


def test_every_key_of_priors_and_teachers(cli):
    bench = bench_of(cli, {})
    for name, _ in fields_of(PretrainedPrior, {}):
        assert expected(f"prior.{name}", "PretrainedPrior") is not None
    walk(bench, "prior_source", "prior", TrainedPrior, {})
    walk(bench, "teacher_source", "teacher", TrainedTeacher, {})


def test_features_belong_to_the_autoencoder(cli):
    bench = bench_of(cli, {})

    def keys_with(weight, classifier):
        source = TrainedPrior(VAEConfig(feature_weight=weight), features=classifier)
        return keys_of(dataclasses.replace(bench, prior_source=source))

    base = keys_with(0.1, TrainedTeacher())
    for after in (
        keys_of(bench),
        keys_with(0.2, TrainedTeacher()),
        keys_with(0.1, TrainedTeacher(epochs=3)),
    ):
        assert {stage for stage in base if after[stage] != base[stage]} == set(VAE.split())


def test_every_key_of_datasets(cli, folder, tables):
    bench = bench_of(cli, {})
    images = {"root": str(folder), "dataset_name": "toy", "image_size": 16}
    walk(bench, "data", "data", ImageFolderImages, images, without=("registry", "root"))
    rows = {**tables, "dataset_name": "toy", "image_size": 16}
    hub = [name.removeprefix("data.") for name, stages in EXPECTED.items() if stages == "hub"]
    VALUES["data.train_files"], VALUES["data.test_files"] = tables.values().__reversed__()
    without = (*hub, "registry", "only_present_classes")
    walk(bench, "data", "data", HuggingFaceImages, rows, without=without)
    for kind in (Digits, FashionMNIST):  # arguments of the same names
        for name, _ in fields_of(kind, {}):
            expected(f"data.{name}")


def test_places_are_no_contents(cli, folder, tmp_path):
    bench = bench_of(cli, {})
    base = keys_of(bench)
    shutil.copytree(folder, tmp_path / "moved")

    def moved():
        data = ImageFolderImages(str(tmp_path / "moved"), "toy", 16)
        return keys_of(dataclasses.replace(bench, data=data))

    hold("data.root", base, moved())
    Image.new("RGB", (16, 16), (1, 2, 3)).save(tmp_path / "moved" / "train" / "a" / "0.png")
    after = moved()
    assert {stage for stage in base if after[stage] != base[stage]} == set(STAGES)


def methods():
    """List the methods of the suite: whatever is no wrapper and comes with it."""
    kinds = [Distiller]
    for kind in kinds:
        kinds += kind.__subclasses__()
    own = [kind for kind in kinds if kind.__module__.startswith(("ddoq.", "baselines."))]
    plain = [k for k in own if not inspect.isabstract(k) and not issubclass(k, Wrapper)]
    return [
        kind for kind in plain if kind.works_on is ImageDataModule
    ]  # others: test_graph_keys.py


@pytest.mark.parametrize("kind", methods(), ids=lambda kind: kind.__name__)
def test_every_key_of_methods(cli, kind):
    bench = bench_of(cli, {})
    known = {"ipc": 1, "experts": ExpertTrajectories(), "target_model": BarlowTwins()}
    given = {name: known[name] for name in known if name in inspect.signature(kind).parameters}
    walk(bench, "distiller", "model", kind, given, kind.__name__)
    if (
        "quantizer" in inspect.signature(kind).parameters
    ):  # which may be left out: now field by field
        fields = {**given, "quantizer": Quantizer()}
        walk(bench, "distiller", "model", kind, fields, kind.__name__, without=("faithful",))
    method = kind(**given)
    base = keys_of(dataclasses.replace(bench, distiller=method))
    data = bench.data
    for name in ("mean", "std"):
        other = ImageFolderImages(str(data.folders[0].parent), "toy", 16, **{name: (0.1, 0.2, 0.3)})
        after = keys_of(dataclasses.replace(bench, data=other, distiller=kind(**given)))
        through = method.needs_teacher or method.sees_normalized
        assert (after["shard"] != base["shard"]) == through
        assert after["prior"] == base["prior"]


def test_the_quantiser_d4m_reads_its_chunks(cli):
    bench = bench_of(cli, {})
    given = {"ipc": 1, "quantizer": Quantizer("d4m")}
    base, after = (
        keys_of(dataclasses.replace(bench, distiller=made))
        for made in (DDOQ(**given), made_with(DDOQ, given, "quantizer.km_expand", 2))
    )
    assert {stage for stage in base if after[stage] != base[stage]} == set(SET.split())


def test_every_key_of_recipes_and_students(cli):
    bench = bench_of(cli, {})
    base = keys_of(bench)
    usual = load_recipe(bench.recipe.name, bench.recipe.overrides)
    for field in dataclasses.fields(Recipe):
        if field.name in ("name", "changed"):  # what it is called follows from the rest
            continue
        key = f"recipe.{field.name}"
        recipe = dataclasses.replace(usual, **RIDERS.get(key, {}))
        value = other_value(key, getattr(recipe, field.name))
        other = dataclasses.replace(recipe, **{field.name: value})
        hold(key, keys_of(bench, recipe), keys_of(bench, other))
    for field in dataclasses.fields(Student):
        key = f"students.{field.name}"
        value = other_value(key, getattr(bench.students[0], field.name))
        student = dataclasses.replace(bench.students[0], **{field.name: value})
        hold(key, base, keys_of(dataclasses.replace(bench, students=[student])))
    hold("seeds", base, keys_of(dataclasses.replace(bench, seeds=[7])))


def test_every_other_key(cli, tmp_path):
    """Trainer, W&B, evaluation and the keys at the top, as a command line gives them."""
    base = keys_of(bench_of(cli, {}))
    outer = ("config", "smoke", *(name for name, key in KEYS.items() if key.part))
    seen = {*outer, "students", "seeds", "recipe"}
    for place, value in cli.config.items(branches=False):
        group = place.partition(".")[0]
        if group in seen:
            continue
        expected(place)
        if group == "trainer" and place not in VALUES and not isinstance(value, (bool, int, float)):
            continue  # Lightning would look for a plugin, a profiler or a folder of that name
        try:
            after = keys_of(bench_of(cli, {place: other_value(place, value)}))
        except UserError:
            continue  # refused, so that nothing is taken for anything
        hold(place, base, after)


@pytest.mark.parametrize(
    ("one", "other"),
    [(None, "32-true"), ("32", "32-true"), ("bf16", "bf16-mixed"), ("64", "64-true")],
)
def test_aliases_of_a_precision_are_one(cli, one, other):
    first, second = (keys_of(bench_of(cli, {"trainer.precision": p})) for p in (one, other))
    assert first == second


def test_weights_that_are_opened_count_by_what_decides_them(cli, tmp_path):
    data, settings = bench_of(cli, {}).dataset, []
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]))
    given = {"path": str(files[0]), "arch": "convnet2-w8"}
    changes = [
        {},
        {"path": str(files[1])},
        {"arch": "convnet3-w8"},
        {"arch": "torchvision/resnet18", "weights": "IMAGENET1K_V1"},
        {"classes": [1, 0]},
        {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)},
        {"mean": (0.5, 0.5, 0.5), "std": (0.1, 0.2, 0.3)},
        {"kwargs": {"padding": 3}},
        {"stem": "small"},
    ]
    assert set(inspect.signature(PretrainedTeacher).parameters) == {k for c in changes for k in c}
    for change in changes:
        source = PretrainedTeacher(**{**given, **change})
        settings.append(hash_config(_find_weights(source, data).settings(source, data)))
    assert len(set(settings)) == len(changes)
