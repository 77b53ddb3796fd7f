"""The full-scale configurations from photographs to the table, with released models' formats at a tiny size.

The pipelines are diffusers folders as `hf download` leaves them, with random weights: images are noise, files are real.
"""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from diffusers import DiffusionPipeline
from huggingface_hub.errors import GatedRepoError
from PIL import Image
from tiny_pipelines import build_dit, build_stable_diffusion

from benchmarks.cli import main
from ddoq.data import ImageFolderImages, imagefolder, load_registry
from ddoq.priors import PretrainedPrior

CONFIGS = Path(__file__).parents[3] / "configs"
CLASSES, TRAIN, TEST = 3, 12, 4
KEYS = load_registry("tiny-imagenet").keys[:CLASSES]
NAMES = load_registry("tiny-imagenet").names[:CLASSES]
SIZE, PRIOR_SIZE = 16, 32
NEGATIVE = "cartoon, anime, painting"


def place(root: Path, split: str, label: int, number: int) -> Path:
    folder = root / split / KEYS[label]
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{number:03d}.jpg"


def generate_images(root: Path) -> None:
    """Write JPEGs of 64 x 64 pixels: stripes whose width tells the class, in noise."""
    draws = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", TEST)):
        for label in range(CLASSES):
            for number in range(count):
                stripes = 120 * (np.arange(64) // 4 ** (label + 1) % 2)[:, None, None]
                pixels = stripes + draws.integers(0, 130, (64, 64, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place(root, split, label, number))


def take_tiny_imagenet(root: Path) -> None:
    """Write the first images of the first classes of Tiny-ImageNet, the JPEG files as they are."""
    source = os.environ.get("DDOQ_TEST_TINY_IMAGENET")
    if not source or not (Path(source) / "train-00000-of-00004.parquet").is_file():
        pytest.skip("DDOQ_TEST_TINY_IMAGENET names no folder with the dataset's parquet files")
    for split, count in (("train", TRAIN), ("val", TEST)):
        table = pq.read_table(Path(source) / f"{split}-00000-of-00004.parquet")
        for label in range(CLASSES):
            images = table.filter(pc.field("label") == label)["image"][:count].to_pylist()
            assert len(images) == count
            for number, image in enumerate(images):
                place(root, split, label, number).write_bytes(image["bytes"])


SOURCES = {"generated": generate_images, "tiny-imagenet": take_tiny_imagenet}


# Those of configs/priors/dit.yaml, for latents of two channels instead of four.
DIT_SETTINGS = {
    "classes": "imagenet",
    "scheduler": "DDPMScheduler",
    "scheduler_settings": {
        "variance_type": "learned_range",
        "timestep_spacing": "linspace",
        "clip_sample": False,
    },
    "guided_channels": 1,
}


def make_pipeline(kind: str, folder: Path) -> None:
    if kind == "dit":
        build_dit(classes=1000, learned_sigma=True, size=PRIOR_SIZE).save_pretrained(folder)
    else:
        made = build_stable_diffusion(folder.with_name("tokenizer"), size=PRIOR_SIZE)
        made.save_pretrained(folder)


class Bench:
    """Runs the configurations of Imagenette on other images, with a tiny pipeline in the place of a released one."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.output = kind, root / "runs"
        self.data = {
            "root": str(root / "images"),
            "dataset_name": "three",
            "registry": None,
            "class_names": dict(zip(KEYS, NAMES, strict=True)),
            "image_size": SIZE,
            "prompt": "{name}",
            "num_workers": 0,
        }
        told = DIT_SETTINGS if kind == "dit" else {"negative_prompt": NEGATIVE}
        self.prior = {"path": str(root / "pipeline"), "dtype": "float32", **told}
        blank = dict.fromkeys(DIT_SETTINGS) | {"negative_prompt": ""}
        overlay = {
            "data": {"class_path": "ImageFolderImages", "init_args": self.data},
            "prior": {"class_path": "PretrainedPrior", "init_args": {**blank, **self.prior}},
            "teacher": {
                "class_path": "TrainedTeacher",
                "init_args": {"arch": "convnet2-w8-bn", "epochs": 1},
            },
            "students": [{"name": "convnet", "arch": "convnet2-w8"}],
            "seeds": [0],
            "recipe": {"name": "hard_idc", "overrides": {"epochs": 1}},
            "wandb": {"mode": "disabled"},
            "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
            "output": str(self.output),
        }
        self.overlay = root / "overlay.yaml"
        self.overlay.write_text(yaml.safe_dump(overlay))

    def arguments(self, name: str, ipc: int) -> list[str]:
        layers = (
            CONFIGS / "datasets/imagenette.yaml",
            CONFIGS / f"methods/{name}.yaml",
            self.overlay,
        )
        given = [part for path in layers for part in ("--config", str(path))]
        options = {"ipc": ipc}
        if name == "sre2l":
            options |= {"iterations": 2, "jitter": 2}
        elif name != "random":  # the same of both methods, so that they share shards
            options |= {"batch_size": 8, "sampling.num_inference_steps": 3}
            options |= {"sampling.guidance_scale": 4.0}
        return given + [f"--model.init_args.{key}={value}" for key, value in options.items()]

    def fit(self, name: str, ipc: int) -> dict:
        """Run one cell and return its row."""
        before = set(self.rows())
        assert main(["fit", *self.arguments(name, ipc)]) == 0
        (new,) = set(self.rows()) - before
        return json.loads(new.read_text())

    def rows(self) -> list[Path]:
        return sorted((self.output / "results").glob("*.json"))

    def stamps(self, folder: str) -> dict[Path, int]:
        files = (self.output / folder).rglob("*.safetensors")
        return {file: file.stat().st_mtime_ns for file in files}

    def fingerprint(self) -> str:
        """Open the prior by itself and ask who it is."""
        data = ImageFolderImages(**self.data)
        data.setup()
        return PretrainedPrior(**self.prior).obtain(data, self.output, {}).fingerprint


@pytest.fixture
def decoded(monkeypatch) -> Counter:
    """Count the image files that are decoded, by split and side in pixels."""
    counts: Counter = Counter()
    decode_all = imagefolder.decode_all

    def count(sources, size, *rest, **options):
        counts.update((source.parent.parent.name, size) for source in sources)
        return decode_all(sources, size, *rest, **options)

    monkeypatch.setattr(imagefolder, "decode_all", count)
    return counts


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("stable_diffusion", "generated"),
        ("dit", "generated"),
        ("stable_diffusion", "tiny-imagenet"),
    ],
)
def test_from_photographs_to_the_table(kind, source, tmp_path, decoded, capsys):
    SOURCES[source](tmp_path / "images")
    make_pipeline(kind, tmp_path / "pipeline")
    bench, ddoq = Bench(kind, tmp_path), "ddoq_dit" if kind == "dit" else "ddoq_sd"

    first = bench.fit(ddoq, 1)
    assert (
        decoded["train", PRIOR_SIZE] == CLASSES * TRAIN
    )  # each photograph once, at the prior's size
    latents, shards = bench.stamps("latents"), bench.stamps("shards")
    assert (len(latents), len(shards)) == (CLASSES, CLASSES)

    decoded.clear()
    rows = {"ddoq": bench.fit(ddoq, 10)}
    assert bench.stamps("latents") == latents  # encoded once for all budgets
    shards = bench.stamps("shards")
    assert len(shards) == 2 * CLASSES
    rows["d4m"] = bench.fit("d4m_sd", 10)
    assert bench.stamps("latents") == latents
    assert bench.stamps("shards") == shards  # the same images, of other weights
    assert not [key for key in decoded if key[0] == "train"]  # neither read a photograph

    rows["sre2l"] = bench.fit("sre2l", 10)
    rows["random"] = bench.fit("random", 10)
    assert bench.stamps("latents") == latents
    fingerprint = bench.fingerprint()
    for method, row in {"first": first, **rows}.items():
        assert method in ("first", row["cell"]["method"])
        named = row["config"]["distilled"]["context"]["prior"]
        assert named == (None if method in ("sre2l", "random") else fingerprint)
        assert 0 <= row["metrics"]["top1_last"] <= 1

    sets = {
        found["method"]: found
        for path in (bench.output / "distilled").glob("*-ipc10-*/metadata.json")
        if (found := json.loads(path.read_text()))
    }
    assert set(sets) == set(rows)
    assert sets["ddoq"]["encoded_at"] == sets["d4m"]["encoded_at"] == PRIOR_SIZE
    assert all(
        (path.parent / "images.png").exists() for path in (bench.output).rglob("config.json")
    )
    capsys.readouterr()
    assert main(["leaderboard", str(bench.output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for method in rows:
        assert [line for line in lines if line.startswith(f"| {method} ")], method


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """Images and pipelines that tests of mistakes copy."""
    root = tmp_path_factory.mktemp("full-scale")
    for kind in ("stable_diffusion", "dit"):
        generate_images(root / kind / "images")
        make_pipeline(kind, root / kind / "pipeline")
    return root


def change(path: Path, **values) -> None:
    """Give values to the keys of a JSON file; None takes a key away."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: v for key, v in content.items() if v is not None}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def rename_classes(pipeline: Path) -> None:
    for split in ("train", "val"):
        for number, key in enumerate(KEYS):
            folder = pipeline.parent / "images" / split
            (folder / key).rename(folder / f"class{number}")


SD, DIT = "stable_diffusion", "dit"
PRIOR = "--prior.init_args."
MISTAKES = {  # what is broken in the folder, or said on the command line, and what the user is told
    "missing on the hub": (SD, [PRIOR + "path=no/model"], r"no/model is no folder.*HF_HUB_OFFLINE"),
    "no folder": (DIT, shutil.rmtree, r"pipeline does not exist.*facebook/DiT-XL-2-256"),
    "no text encoder": (
        SD,
        lambda folder: shutil.rmtree(folder / "text_encoder"),
        r"text_encoder/config\.json missing",
    ),
    "half a download": (
        SD,
        lambda folder: cut(folder / "unet" / "diffusion_pytorch_model.safetensors"),
        r"unet/diffusion_pytorch_model\.safetensors.*fetch the folder again",
    ),
    "no scaling": (
        SD,
        lambda folder: change(folder / "vae" / "config.json", scaling_factor=None),
        r"has no scaling_factor.*standard deviation of.*Set it to about",
    ),
    "scaling zero": (
        DIT,
        lambda folder: change(folder / "vae" / "config.json", scaling_factor=0.0),
        r"scaling_factor in vae/config\.json must be a positive number, not 0\.0",
    ),
    "scaling in words": (
        DIT,
        lambda folder: change(folder / "vae" / "config.json", scaling_factor="big"),
        r"scaling_factor in vae/config\.json must be a positive number, not 'big'",
    ),
    "scaling far off": (
        DIT,
        lambda folder: change(folder / "vae" / "config.json", scaling_factor=1e7),
        r"class 'goldfish' reach .*beyond fp16's 65504.*Mend scaling_factor",
    ),
    "shape of latents": (
        DIT,
        lambda folder: change(folder / "transformer" / "config.json", in_channels=4),
        r"size mismatch for pos_embed.*not of one model",
    ),
    "classes not told": (
        DIT,
        [PRIOR + "classes=null"],
        r"has 1000 classes, three has 3.*set prior\.classes: `imagenet`",
    ),
    "too few classes": (DIT, [PRIOR + "classes=[1, 2]"], r"has 2 classes, three has 3"),
    "a class twice": (DIT, [PRIOR + "classes=[1, 2, 2]"], r"lists 2 more than once"),
    "a class too high": (DIT, [PRIOR + "classes=[1, 2, 1000]"], r"0\.\.999: 1000 is none"),
    "other folders": (
        DIT,
        rename_classes,
        r"class0 \(class0\).*keys must be WordNet ids",
    ),
    "classes for prompts": (
        SD,
        [PRIOR + "classes=imagenet"],
        r"prior\.classes has no meaning.*prompts",
    ),
}


@pytest.mark.parametrize(("kind", "mistake", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_one_line(kind, mistake, message, benches, tmp_path, capfd):
    shutil.copytree(benches / kind, tmp_path, dirs_exist_ok=True)
    bench = Bench(kind, tmp_path)
    extra = mistake if isinstance(mistake, list) else []
    if callable(mistake):
        mistake(tmp_path / "pipeline")
    if mistake is rename_classes:
        extra = ["--data.init_args.class_names=null"]
    name = "ddoq_dit" if kind == DIT else "ddoq_sd"
    capfd.readouterr()
    assert main(["fit", *bench.arguments(name, 2), *extra]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)
    assert not (tmp_path / "runs" / "distilled").exists()


def test_a_gated_model_says_how_to_get_it(benches, tmp_path, monkeypatch, capfd):
    shutil.copytree(benches / SD, tmp_path, dirs_exist_ok=True)
    request = httpx.Request("GET", "https://huggingface.co/somebody/gated")
    refusal = GatedRepoError("403", response=httpx.Response(403, request=request))

    def refuse(*args, **kwargs):
        raise OSError("cannot load") from refusal  # as diffusers wraps it

    monkeypatch.setattr(DiffusionPipeline, "load_config", refuse)
    arguments = Bench(SD, tmp_path).arguments("ddoq_sd", 2)
    assert main(["fit", *arguments, PRIOR + "path=somebody/gated"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(r"gated\. Accept its terms.*hf auth login.*hf download somebody/gated", line)
