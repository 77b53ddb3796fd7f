"""Every YAML of the repository runs, from distillation to the table, on tiny data."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from jsonargparse import Namespace
from PIL import Image

import baselines  # noqa: F401 - registers the methods
import ddoq.ddoq  # noqa: F401
from benchmarks.cli import main
from benchmarks.commands.configured import configure
from benchmarks.configuration.layers import expand, resolve
from benchmarks.configuration.mistakes import concrete_subclasses, find_class
from benchmarks.results.files import read_results
from benchmarks.results.graphs import GRAPHS
from benchmarks.results.transfers import TRANSFERS
from benchmarks.suites.jobs import plan_suite
from ddoq.data import LabelledData, load_registry
from ddoq.distillation.distiller import Distiller

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
ALL_DATASETS, ALL_METHODS, SCALES = (
    sorted((CONFIGS / folder).glob("*.yaml")) for folder in ("datasets", "methods", "scales")
)
RANDOM, DIGITS = CONFIGS / "methods" / "random.yaml", CONFIGS / "datasets" / "digits.yaml"
GRAPH_RANDOM = CONFIGS / "methods" / "graph_random.yaml"
NODE_RANDOM = CONFIGS / "methods" / "node_random.yaml"
MOTIFS, COMMUNITIES = (CONFIGS / "datasets" / f"{name}.yaml" for name in ("motifs", "communities"))


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


def write_folders(folder: Path, per_class: int) -> None:
    for label, key in enumerate(load_registry("imagenette").keys):
        (folder / key).mkdir(parents=True)
        for number in range(per_class):
            Image.fromarray(pixels(label, number, 24)).save(folder / key / f"{number}.png")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-data")
    for split, stem, per_class in (("train", "train", 12), ("test", "t10k", 3)):
        write_parquet(folder / f"{split}.parquet", per_class)
        write_idx(folder, stem, per_class)
        write_folders(folder / {"train": "train", "test": "val"}[split], per_class)
    return folder


@pytest.fixture(scope="session")
def output(tmp_path_factory) -> Path:
    """One cache for all configurations: those of a dataset share their prior and teacher."""
    return tmp_path_factory.mktemp("runs")


def own_data(dataset: Path, data: Path) -> list[str]:
    """Say where a dataset's files lie, or that there are none on this machine."""
    if dataset in (DIGITS, MOTIFS, COMMUNITIES):
        return ["--smoke=true"]
    if dataset.stem == "fashion_mnist":
        return ["--smoke=true", f"--data.init_args.root={data}"]
    if dataset.stem == "cifar10":
        files = [f"--data.init_args.{s}_files={data / f'{s}.parquet'}" for s in ("train", "test")]
        return ["--smoke=true", "--data.init_args.path=null", *files]
    if dataset.stem == "imagenette":
        return ["--smoke=true", f"--data.init_args.root={data}"]
    if dataset.stem == "photographs":
        return ["--smoke=true", f"--data.init_args.root={data}", "--data.init_args.test_folder=val"]
    # test_known_datasets.py reads what their files say of the data.
    return ["--smoke=synthetic"]


def methods() -> list[type]:
    """List the registered methods."""
    known = concrete_subclasses(Distiller)
    return [kind for kind in known if kind.__module__.split(".")[0] in ("ddoq", "baselines")]


def class_of(method: Path, key: str = "model") -> str:
    """Find the class of a method's file, in itself or in what it extends; of a dataset's with the key ``data``."""
    parts = [yaml.safe_load(file.read_text()).get(key, {}) for file in resolve(method)]
    return [part["class_path"] for part in parts if "class_path" in part][-1]


def holds(file: Path) -> str:
    """Say what a dataset holds, or what a method works on."""
    if file.parent.name == "datasets":
        return find_class(class_of(file, "data"), LabelledData).holds
    return find_class(class_of(file), Distiller).works_on.holds


DATASETS, METHODS = (
    [file for file in files if holds(file) == "images"] for files in (ALL_DATASETS, ALL_METHODS)
)
GRAPH_DATASETS, GRAPH_METHODS = (
    [file for file in files if holds(file) == "graphs"] for files in (ALL_DATASETS, ALL_METHODS)
)
NODE_DATASETS, NODE_METHODS = (
    [file for file in files if holds(file) == "nodes"] for files in (ALL_DATASETS, ALL_METHODS)
)

# Of the pairs, `scales/<scale>/<method>.yaml` are read by what runs at that scale.
PAPERS = [
    (CONFIGS / "datasets" / f"{path.parent.name}.yaml", CONFIGS / "methods" / path.name)
    for path in sorted((CONFIGS / "papers").glob("*/*.yaml"))
]
AT_SCALE = [
    (DIGITS, CONFIGS / "methods" / path.name, CONFIGS / "scales" / f"{path.parent.name}.yaml")
    for path in sorted((CONFIGS / "scales").glob("*/*.yaml"))
]
RUNS = dict.fromkeys(
    [
        *((DIGITS, method) for method in METHODS),
        *((dataset, RANDOM) for dataset in DATASETS),
        *((MOTIFS, method) for method in GRAPH_METHODS),
        *((dataset, GRAPH_RANDOM) for dataset in GRAPH_DATASETS),
        *((COMMUNITIES, method) for method in NODE_METHODS),
        *((dataset, NODE_RANDOM) for dataset in NODE_DATASETS),
        *((DIGITS, RANDOM, scale) for scale in SCALES),
        *PAPERS,
        *AT_SCALE,
        (CONFIGS / "quickstart.yaml",),
    ]
)


@pytest.mark.parametrize("files", RUNS, ids=lambda files: " ".join(path.stem for path in files))
def test_every_file_runs_from_distillation_to_the_table(files, tiny_data, output, capsys):
    dataset = DIGITS if len(files) == 1 else files[0]
    given = [f"--config={path}" for path in files]
    assert main(["fit", *given, *own_data(dataset, tiny_data), f"--output={output}"]) == 0
    printed = capsys.readouterr().out
    assert f"writes to {output / 'smoke'}" in printed
    (row,) = [
        line
        for line in printed.splitlines()
        if line.startswith(("convnet", "gcn[")) and "(n=" in line
    ]
    assert "(n=1)" in row
    assert [path.name for path in output.iterdir()] == ["smoke"]
    assert leaderboard_is_empty(output)


def leaderboard_is_empty(output: Path) -> bool:
    readers = (read_results, TRANSFERS.read_all, GRAPHS.read_all)
    made = [read(output / "smoke")[0] for read in readers]
    return all(read(output) == ([], []) for read in readers) and any(made)


@pytest.mark.parametrize("suite", sorted((CONFIGS / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_suite_can_be_planned(suite):
    plan = plan_suite(suite)
    assert plan.cells
    assert len({job.key for job in (*plan.sets, *plan.cells)}) == len(plan.sets) + len(plan.cells)


def test_every_registered_method_has_a_configuration():
    assert {class_of(path) for path in ALL_METHODS} == {kind.__name__ for kind in methods()}


@pytest.fixture(scope="module")
def parse():
    """Parse layers as every command does; the parser is built once."""
    parser = configure("fit", ["--config", str(CONFIGS / "quickstart.yaml")]).parser

    def parsed(*layers: Path) -> Namespace:
        return parser.parse_args(expand([f"--config={path}" for path in layers]))

    return parsed


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda path: path.stem)
def test_every_method_goes_with_every_dataset(dataset, parse):
    for method in METHODS:
        shown = parse(dataset, method)
        assert shown.model.class_path.rpartition(".")[2] == class_of(method)
        assert shown.data.init_args.image_size
        assert shown.students


@pytest.mark.parametrize("dataset", [*GRAPH_DATASETS, *NODE_DATASETS], ids=lambda path: path.stem)
def test_every_graph_method_goes_with_every_dataset_of_graphs(dataset, parse):
    for method in GRAPH_METHODS if dataset in GRAPH_DATASETS else NODE_METHODS:
        shown = parse(dataset, method)
        assert shown.model.class_path.rpartition(".")[2] == class_of(method)
        assert shown.data.class_path.rpartition(".")[2] == class_of(dataset, "data")
        assert [student.arch for student in shown.students] == ["gcn", "gin", "gat"]


@pytest.mark.parametrize("scale", SCALES, ids=lambda path: path.stem)
def test_a_scale_goes_with_every_dataset_and_leaves_its_flips(scale, parse):
    stated = yaml.safe_load(scale.read_text())
    if "data" not in stated:
        return  # a base that datasets extend
    limit = stated["data"]["init_args"]["limit_per_class"]
    assert (limit is None) == scale.stem.startswith("cpu_whole")
    for dataset in DATASETS:
        whole, small = parse(dataset, RANDOM), parse(dataset, RANDOM, scale)
        assert small.data.class_path == whole.data.class_path
        assert small.data.init_args.limit_per_class == limit
        flips = [shown.recipe.overrides.get("flip") for shown in (whole, small)]
        assert flips == [False if dataset == DIGITS else None] * 2
        if whole.teacher.class_path.endswith("TrainedTeacher"):
            mirrored = [shown.teacher.init_args.hflip for shown in (whole, small)]
            assert mirrored == [dataset != DIGITS] * 2


def test_files_of_pairs_name_layers_that_exist_and_their_class():
    names = {path.stem for path in ALL_DATASETS}, {path.stem for path in ALL_METHODS}
    pairs = [*(CONFIGS / "papers").glob("*/*.yaml"), *(CONFIGS / "scales").glob("*/*.yaml")]
    assert pairs
    for path in pairs:
        first = {path.stem for path in SCALES} if path.parts[-3] == "scales" else names[0]
        assert path.parent.name in first, path
        assert path.stem in names[1], path
        assert class_of(path) == class_of(CONFIGS / "methods" / path.name)
