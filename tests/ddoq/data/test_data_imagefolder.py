import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from ddoq.data import ImageFolderImages
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


@pytest.mark.parametrize("cached", [True, False])
def test_a_corrupt_image_is_named_when_it_is_needed(tmp_path, cached):
    path = write(tmp_path) / "train" / KEYS[1] / "2.png"
    path.write_bytes(path.read_bytes()[:50])
    data = ready(tmp_path, cache_images=cached)
    assert data.train.load([0]).shape == (1, 3, 6, 6)
    with pytest.raises(UserError, match=rf"{KEYS[1]}/2\.png: the image cannot be decoded"):
        data.train.load(range(9))


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
    others = [ready(tmp_path / "a", prompt="{name}"), ready(tmp_path / "a", image_size=4)]
    assert len({base, *(data.fingerprint for data in others)}) == 3
