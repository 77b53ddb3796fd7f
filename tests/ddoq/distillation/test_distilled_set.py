import json

import pytest
import torch

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError


def make(n: int = 4, classes: int = 2, **changes) -> DistilledSet:
    generator = torch.Generator().manual_seed(0)
    parts = {
        "images": torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8),
        "labels": torch.arange(classes).repeat_interleave(n // classes),
        "weights": torch.tensor([0.5, 1.5]).repeat(n // 2),
        "class_names": [f"class {i}" for i in range(classes)],
        "metadata": {"method": "test", "settings": {"ipc": n // classes}},
    }
    return DistilledSet(**{**parts, **changes})


def test_round_trip_keeps_every_bit(tmp_path):
    original = make()
    original.save(tmp_path / "set")
    loaded = DistilledSet.load(tmp_path / "set")
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.labels, original.labels)
    assert torch.equal(loaded.weights, original.weights)
    assert loaded.class_names == original.class_names
    assert loaded.metadata == original.metadata
    assert loaded.fingerprint == original.fingerprint


def test_properties_count_what_is_stored():
    distilled = make(8)
    assert (len(distilled), distilled.ipc, distilled.image_bytes) == (8, 4, 8 * 3 * 64)


def test_fingerprint_sees_images_labels_and_weights_only():
    base = make()
    assert make(metadata={"other": 1}).fingerprint == base.fingerprint
    assert make(images=255 - base.images).fingerprint != base.fingerprint
    assert make(weights=base.weights.flip(0)).fingerprint != base.fingerprint
    swapped = DistilledSet(base.images, base.labels.flip(0), base.weights, base.class_names)
    assert swapped.fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.rand(4, 3, 8, 8)}, "images must be uint8"),
        ({"images": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)}, "images must be uint8"),
        ({"labels": torch.zeros(4)}, "labels must be int64"),
        ({"labels": torch.tensor([0, 0, 1, 2])}, "0..1"),
        ({"labels": torch.tensor([0, 0, 1, -1])}, "0..1"),
        ({"weights": torch.ones(3)}, "weights must be float32"),
        ({"weights": torch.tensor([-1.0, 3.0, 1.0, 1.0])}, "at least 0"),
        ({"weights": torch.tensor([float("nan"), 1.0, 1.0, 1.0])}, "finite"),
        ({"weights": torch.full((4,), 2.0)}, "mean 1"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_a_cut_file_is_named(tmp_path):
    make().save(tmp_path)
    file = tmp_path / "distilled.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"distilled\.safetensors is corrupt"):
        DistilledSet.load(tmp_path)


def test_a_flipped_bit_is_noticed(tmp_path):
    make().save(tmp_path)
    file = tmp_path / "distilled.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match="checksum"):
        DistilledSet.load(tmp_path)


def test_a_record_of_another_set_is_noticed(tmp_path):
    make().save(tmp_path / "a")
    make(images=torch.zeros(4, 3, 8, 8, dtype=torch.uint8)).save(tmp_path / "b")
    (tmp_path / "b" / "metadata.json").replace(tmp_path / "a" / "metadata.json")
    with pytest.raises(UserError, match="do not belong together"):
        DistilledSet.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "format 99"), ({"class_names": None}, "lacks class_names")],
)
def test_records_of_other_versions_are_refused(tmp_path, change, message):
    make().save(tmp_path)
    record = json.loads((tmp_path / "metadata.json").read_text())
    record = {k: v for k, v in {**record, **change}.items() if v is not None}
    (tmp_path / "metadata.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        DistilledSet.load(tmp_path)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        DistilledSet.load(tmp_path / "nowhere")
    assert not DistilledSet.exists(tmp_path / "nowhere")


def test_effective_images_are_fewer_the_more_unequal_the_weights():
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([0, 0, 1, 1])
    equal = DistilledSet(images, labels, torch.ones(4), ["a", "b"])
    assert equal.effective_ipc == pytest.approx(2.0)
    # The second class: 2^2 / (1.5^2 + 0.5^2) = 1.6; the mean of 2 and 1.6 is 1.8.
    unequal = DistilledSet(images, labels, torch.tensor([1.0, 1.0, 1.5, 0.5]), ["a", "b"])
    assert unequal.effective_ipc == pytest.approx(1.8)
