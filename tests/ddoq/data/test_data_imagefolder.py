import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from ddoq.data import ImageFolderImages, hashing, imagefolder, imagenet_indices, load_registry
from ddoq.errors import UserError

KEYS = ("n01443537", "n02012849", "n03126707")


def write(root, keys=KEYS, splits=("train", "val"), per_class=3, size=(6, 6)):
    random = np.random.default_rng(0)
    for split in splits:
        for key in keys:
            (root / split / key).mkdir(parents=True)
            for i in range(per_class):
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / key / f"{i}.png")
    return root


def ready(root, **kwargs) -> ImageFolderImages:
    data = ImageFolderImages(str(root), **{"dataset_name": "things", "image_size": 6} | kwargs)
    data.setup()
    return data


def test_labels_and_images_agree_with_torchvision(tmp_path):
    data = ready(write(tmp_path))
    reference = ImageFolder(str(tmp_path / "train"))
    assert data.classes.keys == reference.classes
    assert data.train.labels.tolist() == reference.targets
    pixels = torch.stack(
        [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in reference]
    )
    assert torch.equal(data.train.load(range(9)), pixels)


def test_names_by_folder(tmp_path):
    names = dict(zip(KEYS, ("goldfish", "crane", "crane"), strict=True))
    data = ready(write(tmp_path), class_names=names, prompt="a picture of a {name}")
    assert data.classes.names == ["goldfish", "crane", "crane"]
    assert data.classes[0].prompt == "a picture of a goldfish"


def test_unpadded_numbers_are_refused_with_the_mend(tmp_path):
    with pytest.raises(UserError, match=r"1, 10, 2 \.\.\..*Pad the names with zeros: 01, 10"):
        ready(write(tmp_path, keys=("1", "2", "10"), per_class=1))


@pytest.mark.parametrize("keys", [("0", "1", "2"), ("01", "02", "10"), ("a1", "a10", "a2")])
def test_numbers_whose_order_is_clear_are_fine(tmp_path, keys):
    assert ready(write(tmp_path, keys=keys, per_class=1)).classes.keys == sorted(keys)


def test_other_files_are_left_aside_and_nested_images_found(tmp_path):
    folder = write(tmp_path) / "train" / KEYS[0]
    shutil.copy(folder / "0.png", folder / "._0.png")
    (folder / "boxes.txt").write_text("0 0 1 1")
    (folder / ".thumbnails").mkdir()
    shutil.copy(folder / "0.png", folder / ".thumbnails" / "0.png")
    (tmp_path / "train" / "README.md").write_text("hello")
    (tmp_path / "train" / ".git").mkdir()
    (folder / "images").mkdir()
    (folder / "0.png").rename(folder / "images" / "0.PNG")
    data = ready(tmp_path)
    assert torch.bincount(data.train.labels).tolist() == [3, 3, 3]
    assert data.classes.keys == list(KEYS)


def test_structural_mistakes(tmp_path):
    with pytest.raises(UserError, match="train does not exist"):
        ready(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="train has no class folders"):
        ready(tmp_path)
    write(tmp_path / "set")
    shutil.copy(tmp_path / "set" / "val" / KEYS[0] / "0.png", tmp_path / "set" / "val" / "lost.png")
    with pytest.raises(UserError, match=r"lost\.png lies outside the class folders"):
        ready(tmp_path / "set")
    (tmp_path / "set" / "val" / "lost.png").unlink()
    (tmp_path / "set" / "val" / "dog").mkdir()
    with pytest.raises(UserError, match=r"must have the same class folders.*dog"):
        ready(tmp_path / "set")
    (tmp_path / "set" / "train" / "dog").mkdir()
    with pytest.raises(
        UserError, match="training split of things has no image of 1 of 4 classes: dog"
    ):
        ready(tmp_path / "set")


def cut(path):
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("cached", [True, False])
def test_a_corrupt_image_is_named_when_it_is_needed(tmp_path, cached):
    data = ready(write(tmp_path), cache_images=cached)
    cut(tmp_path / "train" / KEYS[1] / "2.png")  # only now: setup refuses it
    assert data.train.load([0]).shape == (1, 3, 6, 6)
    with pytest.raises(UserError, match=rf"{KEYS[1]}/2\.png: the image cannot be decoded"):
        data.train.load(range(9))


@pytest.mark.parametrize("kept", [True, False])
def test_all_corrupt_images_are_named_at_the_start(tmp_path, monkeypatch, kept):
    if kept:
        monkeypatch.setenv("DDOQ_BENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hashing, "_WORTH_KEEPING", 0)
        monkeypatch.setattr(hashing, "_SETTLED", -60.0)
    root = write(tmp_path / "data")
    cut(root / "train" / KEYS[0] / "1.png")
    cut(root / "train" / KEYS[2] / "0.png")
    cut(root / "val" / KEYS[1] / "2.png")
    Image.new("1", (60_000, 1)).save(root / "val" / KEYS[2] / "0.png")
    for _ in range(2):  # nothing is kept that would hide them from the second run
        with pytest.raises(UserError, match="4 images cannot be used") as caught:
            ready(root)
        for name in (f"train/{KEYS[0]}/1.png", f"train/{KEYS[2]}/0.png", f"val/{KEYS[1]}/2.png"):
            assert f"{name}: the image cannot be decoded" in str(caught.value)
        assert "max_aspect_ratio 100" in str(caught.value)
    write(root.parent / "whole")
    for name in (f"train/{KEYS[0]}/1.png", f"train/{KEYS[2]}/0.png", f"val/{KEYS[1]}/2.png"):
        shutil.copy(root.parent / "whole" / name, root / name)
    assert ready(root, max_aspect_ratio=1e5).test.load([6]).shape == (1, 3, 6, 6)


def test_names_that_are_not_utf8_are_listed(tmp_path):
    write(tmp_path)
    odd = os.fsencode(tmp_path / "train" / KEYS[0]) + b"/caf\xe9.png"
    shutil.copy(tmp_path / "train" / KEYS[0] / "0.png", os.fsdecode(odd))
    with pytest.raises(
        UserError, match=r"1 names that are not UTF-8: '.*caf\\udce9\.png'\. Rename"
    ):
        ready(tmp_path)
    os.rename(odd, tmp_path / "train" / KEYS[0] / "caf\u00e9 \u732b.png")
    assert len(ready(tmp_path).train) == 10


@pytest.mark.parametrize("size", [0, -1, 100_000, 6.5, True, "6"])
def test_a_side_that_cannot_be_is_refused(tmp_path, size):
    with pytest.raises(UserError, match="image_size must be at least 1 and at most 4096 pixels"):
        ImageFolderImages(str(tmp_path), "things", size)


def test_fingerprint_follows_contents_not_places_or_dates(tmp_path):
    base = ready(write(tmp_path / "a", size=(8, 6))).fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    changed = tmp_path / "b" / "val" / KEYS[0] / "1.png"
    os.utime(changed, (0, 0))
    assert ready(tmp_path / "b", cache_images=False, num_workers=1).fingerprint == base
    content = changed.read_bytes()
    changed.write_bytes(content + b"\0")
    assert ready(tmp_path / "b").fingerprint != base
    changed.write_bytes(content)
    assert ready(tmp_path / "b").fingerprint == base
    shutil.copy(changed, changed.with_name("9.png"))
    assert ready(tmp_path / "b").fingerprint != base
    assert ready(tmp_path / "a", prompt="{name}").fingerprint == base  # no number depends on it
    others = [ready(tmp_path / "a", limit_per_class=1), ready(tmp_path / "a", image_size=4)]
    assert len({base, *(data.fingerprint for data in others)}) == 3


TEN = load_registry("imagewoof").keys


def write_tiny_layout(root, keys):
    """Write folders as tiny-imagenet-200.zip has them."""
    write(root, keys=keys, splits=("train",), per_class=2)
    for key in keys:
        folder = root / "train" / key
        (folder / "images").mkdir()
        for file in folder.glob("*.png"):
            file.rename(folder / "images" / file.name)
        (folder / f"{key}_boxes.txt").write_text("0.png 0 0 5 5")
    images = root / "val" / "images"
    images.mkdir(parents=True)
    lines = []
    for number, key in enumerate(reversed(keys)):
        name = f"val_{number}.JPEG"
        Image.new("RGB", (6, 6), (20 * keys.index(key), 0, 0)).save(images / name, quality=95)
        lines.append(f"{name}\t{key}\t0\t0\t5\t5")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    return root


def test_a_registry_names_the_classes(tmp_path):
    data = ready(write(tmp_path, keys=TEN, per_class=1), registry="imagewoof", prompt="{name}")
    assert data.classes.keys == TEN
    assert data.classes[0].prompt == "Shih-Tzu dog"
    assert imagenet_indices(data.classes) == [155, 159, 162, 167, 182, 193, 207, 229, 258, 273]


def test_a_part_is_read_out_of_the_whole(tmp_path):
    whole = ready(write(tmp_path, keys=sorted({*TEN, *KEYS}), per_class=2))
    part = ready(tmp_path, registry="imagewoof")
    assert (whole.num_classes, part.num_classes) == (13, 10)
    assert part.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    for key in TEN:
        of_whole = whole.train.of_class(whole.classes.index_of(key)).tolist()
        of_part = part.train.of_class(part.classes.index_of(key)).tolist()
        assert torch.equal(whole.train.load(of_whole), part.train.load(of_part))
    assert part.fingerprint != whole.fingerprint
    shutil.rmtree(tmp_path / "val" / KEYS[0])
    assert ready(tmp_path, registry="imagewoof").fingerprint == part.fingerprint


def test_folders_that_do_not_fit_the_registry(tmp_path):
    write(tmp_path / "a", keys=TEN[1:], per_class=1)
    with pytest.raises(
        UserError, match=r"train has no folder for 1 of the 10.*n02086240 \(Shih-Tzu"
    ):
        ready(tmp_path / "a", registry="imagewoof")
    write(tmp_path / "b", keys=[f"{i:05d}" for i in range(10)], per_class=1)
    with pytest.raises(UserError, match="Its folders are numbers"):
        ready(tmp_path / "b", registry="imagewoof")
    write(tmp_path / "c", keys=[*TEN, "n0208624"], per_class=1)
    with pytest.raises(UserError, match="no class of imagewoof: n0208624"):
        ready(tmp_path / "c", registry="imagewoof")
    with pytest.raises(UserError, match=r"Unknown registry 'imagenet1k'.*imagenet-1k"):
        ready(tmp_path / "c", registry="imagenet1k")


def test_validation_images_that_nobody_sorted(tmp_path):
    write(tmp_path, keys=TEN, per_class=1)
    Image.new("RGB", (6, 6)).save(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(
        UserError, match=r"00000001\.JPEG lies outside.*torchvision\.datasets\.ImageNet"
    ):
        ready(tmp_path, registry="imagewoof")


@pytest.mark.parametrize("registry", [None, "imagewoof"])
def test_tiny_imagenets_own_layout(tmp_path, registry):
    data = ready(write_tiny_layout(tmp_path, TEN), registry=registry)
    assert data.classes.keys == TEN
    assert data.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert data.test.labels.tolist() == list(range(10))
    reds = data.test.load(range(10))[:, 0].float().mean((1, 2))
    assert (reds - 20 * torch.arange(10)).abs().max() < 4


def test_annotations_that_are_not_utf8(tmp_path):
    file = write_tiny_layout(tmp_path, TEN) / "val" / "val_annotations.txt"
    file.write_bytes(file.read_bytes() + b"caf\xe9\tn1\n")
    with pytest.raises(UserError, match=r"val_annotations\.txt cannot be read"):
        ready(tmp_path)


def test_annotations_that_do_not_fit_their_images(tmp_path):
    file = write_tiny_layout(tmp_path, TEN) / "val" / "val_annotations.txt"
    text = file.read_text()
    faults = {
        text + "val_0.JPEG\tn02086240\n": "line 11: val_0.JPEG appears twice",
        text + "val_99.JPEG\tn02086240\n": "val_99.JPEG is not in its folder",
        text.split("\n", 1)[1]: "val_0.JPEG has no line there",
        "val_0.JPEG\n": "line 1: has no image and class",
    }
    for content, message in faults.items():
        file.write_text(content)
        with pytest.raises(UserError, match=f"{message}.*Unpack the dataset again"):
            ready(tmp_path)


@pytest.mark.parametrize("cached", [True, False])
def test_a_larger_size_is_decoded_from_the_files(tmp_path, cached):
    data = ready(write(tmp_path, size=(12, 12)), cache_images=cached, limit_per_class=2)
    large = data.train.at_size(12)
    assert torch.equal(large.labels, data.train.labels)
    reference = ready(tmp_path, image_size=12, limit_per_class=2).train
    assert torch.equal(large.load(range(6)), reference.load(range(6)))
    assert data.train.at_size(6).load([0]).shape == (1, 3, 6, 6)


@pytest.mark.parametrize("cached", [True, False])
def test_stretched_images_lose_their_ratio_of_sides_and_nothing_else(tmp_path, cached):
    data = ready(write(tmp_path, size=(20, 12)), cache_images=cached)
    assert data.train.at_size(data.image_size).load([0]).shape == data.train.load([0]).shape
    for side in (16, data.image_size):  # also at the dataset's own size, whose images are cut
        stretched = data.train.at_size(side, stretch=True)
        assert stretched is not data.train
        for number, (path, image) in enumerate(
            zip(sorted((tmp_path / "train").rglob("*.png")), stretched.load(range(3)), strict=False)
        ):
            whole = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
            plain = torch.nn.functional.interpolate(
                whole[None].float(), (side, side), mode="bilinear", antialias=True
            )[0]
            assert (image - plain).abs().max() < 1.01, number  # 8-bit pixels are rounded twice


def test_contents_are_hashed_once_and_again_only_where_they_changed(tmp_path, monkeypatch):
    root = write(tmp_path / "data", per_class=2)
    plain = ready(root).fingerprint
    monkeypatch.setattr(hashing, "_WORTH_KEEPING", 0)
    monkeypatch.setattr(hashing, "_SETTLED", -60.0)
    monkeypatch.setenv("DDOQ_BENCH_CACHE", str(tmp_path / "cache"))
    read = []
    original = imagefolder.hash_files
    monkeypatch.setattr(
        imagefolder, "hash_files", lambda files: read.append(files) or original(files)
    )
    assert ready(root).fingerprint == plain
    assert len(read) == 12
    assert ready(root).fingerprint == plain
    assert len(read) == 12
    changed = root / "val" / KEYS[0] / "1.png"
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert ready(root).fingerprint != plain
    assert len(read) == 14  # the two images of one class of one split


def official(path, resize, size) -> torch.Tensor:
    """Show an image as the authors' scripts do, by Pillow."""
    shown = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(size)])
    return torch.from_numpy(np.array(shown(Image.open(path)))).permute(2, 0, 1)


def hold_equal(images, expected):
    """Hold that images differ by the rounding of another library at most; a shift of noise would show."""
    assert images.shape == expected.shape
    assert (images.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("size", [(300, 401), (260, 250), (256, 512), (90, 70)])
def test_test_images_at_224_are_resized_to_256_and_cut(tmp_path, size, cached):
    data = ready(write(tmp_path, per_class=1, size=size), image_size=224, cache_images=cached)
    paths = {split: tmp_path / split / KEYS[1] / "0.png" for split in ("train", "val")}
    hold_equal(data.test.load([1])[0], official(paths["val"], 256, 224))
    hold_equal(data.with_test_resize(224).test.load([1])[0], official(paths["val"], 224, 224))
    hold_equal(data.train.load([1])[0], official(paths["train"], 224, 224))


def test_a_larger_test_resize_reads_the_files(tmp_path):
    data = ready(write(tmp_path, per_class=1, size=(80, 100)), image_size=64)
    shown = data.with_test_resize(72).test.load([0])[0]
    hold_equal(shown, official(tmp_path / "val" / KEYS[0] / "0.png", 72, 64))
