import csv

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from ddoq.data.imagefolder import list_classes
from ddoq.errors import UserError
from ddoq.exchange import export_set
from ddoq.exchange.classes import ClassList
from ddoq.exchange.imagefolder import (
    SIDECAR,
    class_folder,
    list_exported,
    list_imagefolder,
    write_imagefolder,
)
from ddoq.exchange.record import read_record

PETS = ClassList(["cat", "dog", "hen"], None, "a list")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("dog", "0007_dog"),
        ("great white shark, Carcharodon", "0007_great_white_shark_Carcharodon"),
        ("a/../b", "0007_a_b"),
        ("鸟", "0007_class"),
        ("x" * 300, "0007_" + "x" * 60),
    ],
)
def test_folder_names_are_safe(name, folder):
    assert class_folder(7, name, 10) == folder


def test_sorted_folders_are_in_label_order_for_any_number_of_classes():
    for count in (10, 11, 10_000, 10_001):
        labels = sorted({0, 1, 2, 9, count - 2, count - 1})
        folders = [class_folder(label, "zyx"[label % 3], count) for label in labels]
        assert folders == sorted(folders)


def test_torchvision_reads_the_same_labels_and_pixels(tmp_path, make_set):
    distilled = make_set([f"name {11 - i}" for i in range(11)], ipc=3)
    export_set(distilled, tmp_path / "out", "imagefolder")
    read = ImageFolder(tmp_path / "out")
    assert list_classes(tmp_path / "out") == read.classes
    assert [label for _, label in read.samples] == distilled.labels.tolist()
    images = torch.stack([pil_to_tensor(image) for image, _ in read])
    assert torch.equal(images, distilled.images)


def test_sidecar_tells_weights_to_the_last_bit(tmp_path, make_set):
    distilled = make_set()
    write_imagefolder(distilled, tmp_path)
    rows = list(csv.DictReader((tmp_path / SIDECAR).open()))
    read = torch.tensor([float(row["weight"]) for row in rows])
    assert torch.equal(read, distilled.weights)
    assert rows[0] == {
        "file": "0000_tabby_cat/00000.png",
        "label": "0",
        "key": "n0",
        "name": "tabby cat",
        "weight": rows[0]["weight"],
    }
    assert Image.open(tmp_path / rows[0]["file"]).format == "PNG"


def test_a_class_without_images_is_refused(tmp_path, make_set):
    partial = make_set(order=[0, 1, 4, 5])
    with pytest.raises(UserError, match=r"Class 1 \(dog\) has no image"):
        write_imagefolder(partial, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("file,label", "name,label", "under the header"),
        ("0000_tabby_cat/00000.png,0", "../secret.png,0", "line 2: there is no file"),
        ("0000_tabby_cat/00000.png,0", "/etc/hostname,0", "line 2: there is no file"),
        ("00001.png,0", "00001.png,7", "line 3: label 7"),
        ("00001.png,0", "00001.png,x", "line 3: not a file"),
        (",tabby cat,", ",", "line 2: not a file"),
    ],
)
def test_edited_sidecars_are_refused(tmp_path, make_set, old, new, message):
    out = tmp_path / "out"
    export_set(make_set(), out, "imagefolder")
    text = (out / SIDECAR).read_text()
    assert old in text
    (out / SIDECAR).write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        list_exported(out, read_record(out))


def test_missing_sidecar_is_refused(tmp_path, make_set):
    export_set(make_set(), tmp_path / "out", "imagefolder")
    (tmp_path / "out" / SIDECAR).unlink()
    with pytest.raises(UserError, match=r"labels\.csv cannot be read"):
        list_exported(tmp_path / "out", read_record(tmp_path / "out"))


def test_foreign_folders_are_listed_by_label(folder_of):
    found = list_imagefolder(folder_of(["hen", "cat", "dog"]), PETS)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [path.parent.name for path in found.images[::2]] == ["cat", "dog", "hen"]
    assert found.weights is None
    assert found.place(1).endswith("cat/image1.jpg")


def test_other_files_do_not_count(folder_of):
    root = folder_of(["00000", "00001", "00002"])
    before = list_imagefolder(root, PETS)
    (root / "README.txt").write_text("x")
    (root / ".hidden").mkdir()
    (root / "00000" / "Thumbs.db").write_text("x")
    after = list_imagefolder(root, PETS)
    assert after.images == before.images
    assert after.fingerprint == before.fingerprint
    (root / "00000" / "image0.jpg").write_bytes((root / "00001" / "image0.jpg").read_bytes())
    assert list_imagefolder(root, PETS).fingerprint != before.fingerprint


def test_folders_without_classes_or_images(tmp_path, folder_of):
    with pytest.raises(UserError, match="no class folders"):
        list_imagefolder(tmp_path, PETS)
    root = folder_of(["cat", "dog", "hen"])
    for image in (root / "dog").iterdir():
        image.unlink()
    with pytest.raises(UserError, match=r"dog holds no image \(class 1 \(dog\)\)"):
        list_imagefolder(root, PETS)
    Image.new("RGB", (2, 2)).save(root / "stray.png")
    with pytest.raises(UserError, match=r"stray\.png lies outside"):
        list_imagefolder(root, PETS)


def test_a_folder_above_the_classes_is_recognised(folder_of):
    root = folder_of(["cat", "dog", "hen"], where="above/train")
    with pytest.raises(UserError, match=r"train is no class .* lie in .*above/train, import that"):
        list_imagefolder(root.parent, PETS)
