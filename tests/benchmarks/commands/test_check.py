"""What `ddoq-bench check` says of datasets that are whole, and of others."""

import io
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main

KEYS = ("cat", "dog")


@pytest.fixture
def root(tmp_path):
    """Two classes with three training images and a test image each."""
    draws = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for key in KEYS:
            folder = tmp_path / "data" / split / key
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draws.integers(0, 256, (8, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def write_config(path, root):
    text = f"{{class_path: ImageFolderImages, init_args: {{root: {root}, dataset_name: x, image_size: 8, limit_per_class: 1}}}}"
    path.write_text(f"data: {text}\n")
    return str(path)


def test_a_whole_dataset_is_described(root, capsys):
    assert main(["check", str(root)]) == 0
    told = capsys.readouterr().out
    assert "train: 6 images\n  sizes: 10x8 (6)\n  modes: RGB (6)\n  formats: png (6)" in told
    assert "2 classes, images in train and val:\n  0 'cat': 3, 1\n  1 'dog': 3, 1" in told
    assert told.rstrip().endswith("nothing was found")


def test_the_fingerprint_is_that_of_the_configuration(root, tmp_path, capsys):
    from ddoq.data import ImageFolderImages

    assert main(["check", "--config", write_config(tmp_path / "c.yaml", root)]) == 0
    told = capsys.readouterr().out
    assert "train: 6 images" in told  # whole, whatever the limits
    data = ImageFolderImages(str(root), "x", 8, limit_per_class=1)
    data.setup()
    assert f"fingerprint: {data.fingerprint}" in told


def test_everything_odd_is_found(root, tmp_path, capsys):
    shutil.copy(root / "train" / "cat" / "0.png", root / "val" / "cat" / "again.png")
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "dog" / "cat.png")
    for key in KEYS:
        broken = root / "train" / key / "2.png"
        broken.write_bytes(broken.read_bytes()[:60])
    Image.new("1", (30_000, 1)).save(root / "val" / "dog" / "bomb.png")
    assert main(["check", "--config", write_config(tmp_path / "c.yaml", root)]) == 1
    told = capsys.readouterr().out
    for key in KEYS:
        assert f"UNREADABLE {root}/train/{key}/2.png: the image cannot be decoded" in told
    assert "bomb.png: the image cannot be decoded (its sides are 30000 and 1 pixels" in told
    again, first = (root / "val" / "cat" / "again.png", root / "train" / "cat" / "0.png")
    assert f"IN BOTH {again} is {first}" in told
    cat, dog = (root / "train" / "cat" / "1.png", root / "train" / "dog" / "cat.png")
    assert f"TWO LABELS train: {cat} (0), {dog} (1): equal images" in told
    assert "equal to an earlier image of the split: 1" in told
    assert "fingerprint" not in told
    assert "nothing was found" not in told


def test_modes_are_named(root, capsys):
    folder = root / "train" / "dog"
    random = np.random.default_rng(1).integers(0, 256, (8, 10, 4), dtype=np.uint8)
    Image.fromarray(random).save(folder / "alpha.png")
    Image.fromarray(random[..., 0]).save(folder / "grey.png")
    Image.fromarray(random, "CMYK").save(folder / "print.jpg")
    Image.fromarray(random[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    assert main(["check", str(root)]) == 0
    told = capsys.readouterr().out
    for mode in ("RGB with alpha (1)", "grey (1)", "CMYK (1)", "16-bit grey (1)"):
        assert mode in told


def test_parquet_files_and_single_folders(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(KEYS))}
    )
    for split in ("train", "val"):
        files = sorted((root / split).rglob("*.png"))
        cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
        if split == "val":
            cells += [cells[0], {"bytes": b"broken", "path": None}]
        labels = [KEYS.index(file.parent.name) for file in files] + [0, 1] * (split == "val")
        rows = {"image": cells, "label": labels}
        datasets.Dataset.from_dict(rows, features).to_parquet(str(tmp_path / f"{split}.parquet"))
    train, val = (str(tmp_path / f"{split}.parquet") for split in ("train", "val"))
    assert main(["check", train]) == 0
    assert main(["check", str(root / "train")]) == 0
    assert main(["check", train, val]) == 1
    told = capsys.readouterr().out
    assert f"UNREADABLE {val}, row 3: the image cannot be decoded" in told
    assert "equal to an earlier image of the split: 1" in told


def test_images_held_in_memory(capsys):
    assert main(["check", "--config", "configs/datasets/digits.yaml"]) == 0
    told = capsys.readouterr().out
    assert "train: 1347 images" in told
    assert "formats: tensor (1347)" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone does not exist"),
        (["{root}/train/cat/0.png"], "neither a folder nor a .parquet file"),
        (["{root}/train/cat"], "is outside|lies outside"),
        (["{root}/train", "{root}/train"], "is given twice"),
        (["{root}", "--max-pixels", "0"], "max_pixels must be at least 1"),
    ],
)
def test_mistakes(root, capsys, arguments, message):
    assert main(["check", *(item.format(root=root) for item in arguments)]) == 2
    told = capsys.readouterr().err
    assert any(part in told for part in message.split("|"))


def test_a_lone_byte_of_a_png_is_found(root, capsys):
    path = root / "train" / "cat" / "0.png"
    stream = io.BytesIO(path.read_bytes())
    flipped = bytearray(stream.getvalue())
    flipped[len(flipped) // 2] ^= 255
    path.write_bytes(flipped)
    assert main(["check", str(root)]) == 1
    assert "UNREADABLE" in capsys.readouterr().out
