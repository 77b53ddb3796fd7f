"""Every YAML of the repository runs, from distillation to the table, on tiny data."""

import gzip
import inspect
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from benchmarks.cli import main
from benchmarks.suites.jobs import plan_suite

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
FILES = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("parts", "suites")
)


def pixels(label: int, number: int, side: int) -> np.ndarray:
    """Make an image whose brightness tells its class."""
    noise = np.random.default_rng(label * 1000 + number).integers(0, 60, (side, side, 3))
    return (noise + label * 19).astype(np.uint8)


def write_parquet(path: Path, per_class: int) -> None:
    rows = []
    for number in range(per_class):
        for label in range(10):
            file = io.BytesIO()
            Image.fromarray(pixels(label, number, 32)).save(file, "PNG")
            rows.append({"img": {"bytes": file.getvalue(), "path": None}, "label": label})
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_idx(folder: Path, stem: str, per_class: int) -> None:
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    images = np.stack([pixels(int(k), i, 28)[..., 0] for i, k in enumerate(labels)])
    with gzip.open(folder / f"{stem}-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">IIII", 0x803, len(images), 28, 28) + images.tobytes())
    with gzip.open(folder / f"{stem}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-data")
    for split, stem, per_class in (("train", "train", 12), ("test", "t10k", 3)):
        write_parquet(folder / f"{split}.parquet", per_class)
        write_idx(folder, stem, per_class)
    return folder


@pytest.fixture(scope="session")
def output(tmp_path_factory) -> Path:
    """One cache for all configurations: those of a dataset share their prior and teacher."""
    return tmp_path_factory.mktemp("runs")


def overlay(config: Path, data: Path) -> dict:
    """Say what differs from the configuration, by the dataset it is of."""
    # The others have 10 to 1000 classes of up to 512 pixels; test_known_datasets.py reads what is theirs untouched.
    if config.parent == CONFIGS or not {"fashion_mnist", "cifar10"} & set(config.parts):
        # What the other dataset's class shares with this one would stay.
        small = {"limit_per_class": 12, "image_size": 16, "num_workers": 0}
        return {"data": {"class_path": "Digits", "init_args": small}}
    if "fashion_mnist" in config.parts:
        return {"data": {"class_path": "FashionMNIST", "init_args": {"root": str(data)}}}
    files = {f"{split}_files": str(data / f"{split}.parquet") for split in ("train", "test")}
    return {"data": {"class_path": "HuggingFaceImages", "init_args": {"path": None, **files}}}


def arguments(config: Path, data: Path, folder: Path) -> list[str]:
    changes = overlay(config, data)
    recipe = yaml.safe_load((HERE / "tiny.yaml").read_text())
    changes["recipe"] = {"name": "unified", "overrides": {"epochs": 1}}
    if "sre2l" in config.name:
        changes["model"] = {"class_path": "SRe2L", "init_args": {"iterations": 2, "jitter": 2}}
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump({**recipe, **changes}))
    budget = ["--model.init_args.ipc", "2"] if has_budget(config) else []
    return ["--config", str(config), "--config", str(path), *budget]


def has_budget(config: Path) -> bool:
    """Say whether the method can be told how many images per class to make."""
    import baselines  # noqa: F401
    import ddoq.ddoq  # noqa: F401
    from benchmarks.configuration.mistakes import concrete_subclasses
    from ddoq.distillation.distiller import Distiller

    kind = next(k for k in concrete_subclasses(Distiller) if k.__name__ == class_of(config))
    return "ipc" in inspect.signature(kind).parameters


@pytest.mark.parametrize("config", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_config_runs_to_its_table(config, tiny_data, output, tmp_path, capsys):
    given = arguments(config, tiny_data, tmp_path)
    assert main(["fit", *given, "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "convnet" in printed
    assert "top-1" in printed


@pytest.mark.parametrize("suite", sorted((CONFIGS / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_suite_can_be_planned(suite):
    plan = plan_suite(suite)
    assert plan.cells
    assert len({job.key for job in (*plan.sets, *plan.cells)}) == len(plan.sets) + len(plan.cells)


def test_every_registered_method_has_a_config_for_every_dataset():
    import baselines  # noqa: F401
    import ddoq.ddoq  # noqa: F401
    from benchmarks.configuration.mistakes import concrete_subclasses
    from ddoq.distillation.distiller import Distiller

    known = {
        kind.__name__ for kind in concrete_subclasses(Distiller) if "test" not in kind.__module__
    }
    for folder in ("digits", "fashion_mnist", "cifar10", "fashion_mnist/cpu", "cifar10/cpu"):
        used = {class_of(path) for path in (CONFIGS / folder).glob("*.yaml")}
        assert used == known, folder
    for folder in (
        "imagenet1k",
        "imagenet100",
        "imagenette",
        "imagewoof",
        "tiny_imagenet",
        "cifar100",
    ):
        used = {class_of(path) for path in (CONFIGS / folder).glob("*.yaml")}
        assert known - used <= {"WholeDataset"}, folder  # 192 GB of pixels for ImageNet-1K


def class_of(path: Path) -> str:
    """Find the method of a configuration, in itself or in what it extends."""
    content = yaml.safe_load(path.read_text())
    if "model" in content:
        return content["model"]["class_path"]
    return next(class_of(path.parent / base) for base in content["extends"] if "parts" not in base)
