import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform, fit_zca
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.images import to_uint8
from ddoq.labels.targets import Targets
from ddoq.storage.damage import DamagedError

FORMAT_1 = (
    Path(__file__).parents[2] / "stored" / "set_format_1"
)  # written before there was format 2
NORMALISED = Transform.normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.25))


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
        ({"images": torch.rand(4, 3, 8, 8).double()}, "images must be uint8 or float32"),
        ({"images": torch.full((4, 3, 8, 8), torch.inf)}, "images must be finite"),
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
    [
        ({"format": 99}, r"metadata.json has format 99: it was written by a newer version"),
        (
            {"format": 3},
            r"format 3: .* newer version of this package; this one reads formats up to 2",
        ),
        ({"format": "2"}, "format '2', which is none"),
        ({"format": 0}, "format 0, which is none"),
        ({"class_names": None}, "lacks class_names"),
        ({"decoder": None}, "lacks decoder"),
        ({"decoder": {"name": "gan"}}, r"metadata.json: .* the decoder 'gan'.*grid, .*pixels"),
        ({"decoder": {"name": "grid", "factor": 2}}, "do not belong together"),
        ({"recipe": {"name": "dsa"}}, "`recipe` must have the keys"),
    ],
)
def test_records_of_other_versions_are_refused(tmp_path, change, message):
    make().save(tmp_path)
    record = json.loads((tmp_path / "metadata.json").read_text())
    del record["checksum"]
    record = {k: v for k, v in {**record, **change}.items() if v is not None}
    (tmp_path / "metadata.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        DistilledSet.load(tmp_path)


def test_a_changed_digit_in_the_record_is_noticed(tmp_path):
    make(metadata={"seed": 3}).save(tmp_path)
    path = tmp_path / "metadata.json"
    whole = path.read_text()
    changed = whole.replace('"seed": 3', '"seed": 4')
    assert changed != whole
    path.write_text(changed)
    with pytest.raises(DamagedError, match=r"metadata\.json was changed.*`ddoq-bench distill`"):
        DistilledSet.load(tmp_path)
    record = json.loads(changed)
    del record["checksum"]  # which says that the change was meant
    path.write_text(json.dumps(record))
    assert DistilledSet.load(tmp_path).metadata["seed"] == 4


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


def everything(**changes) -> DistilledSet:
    """Make a set that uses all that format 2 has."""
    generator = torch.Generator().manual_seed(1)
    values = {
        "images": torch.randn(4, 3, 8, 8, generator=generator),
        "targets": Targets(torch.rand(4, 5, generator=generator), "vectors"),
        "stages": torch.tensor([0, 1, 0, 1]),
        "form": SetForm(Grid(2), NORMALISED, SetRecipe("dsa", {"lr": "set"}, lr=0.03)),
    }
    return make(**{**values, **changes})


def test_all_that_a_set_may_hold_comes_back(tmp_path):
    original = everything()
    original.save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.targets.values, original.targets.values)
    assert loaded.targets.kind == "vectors"
    assert torch.equal(loaded.stages, original.stages)
    assert loaded.form.decoder == Grid(2)
    assert loaded.form.recipe == original.form.recipe
    assert torch.equal(loaded.form.transform.std, NORMALISED.std)
    assert loaded.metadata == original.metadata
    assert loaded.fingerprint == original.fingerprint
    assert set(loaded.tensors()) == {
        *("data", "label", "target", "weight", "stage", "transform.mean", "transform.std"),
    }


def test_sets_of_format_1_are_read():
    old = DistilledSet.load(FORMAT_1)
    base = make(4)
    assert torch.equal(old.images, base.images)
    assert torch.equal(old.labels, base.labels)
    assert torch.equal(old.weights, base.weights)
    assert old.form == SetForm()
    assert old.metadata == {
        "method": "random",
        "ipc": 2,
        "seed": 0,
        "settings": {"ipc": 2},
        "class_keys": ["a", "b"],
    }


def test_a_set_with_nothing_new_keeps_its_fingerprint(tmp_path):
    recorded = json.loads((FORMAT_1 / "metadata.json").read_text())["fingerprint"]
    assert make(4).fingerprint == recorded == "94b9324d30ab746c"
    DistilledSet.load(FORMAT_1).save(tmp_path)
    again = json.loads((tmp_path / "metadata.json").read_text())
    assert (again["format"], again["fingerprint"]) == (2, recorded)
    assert DistilledSet.load(tmp_path).metadata == DistilledSet.load(FORMAT_1).metadata


def test_damage_to_a_set_of_format_1_is_noticed(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "old")
    record = json.loads((tmp_path / "old" / "metadata.json").read_text())
    (tmp_path / "old" / "metadata.json").write_text(json.dumps({**record, "fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="do not belong together"):
        DistilledSet.load(tmp_path / "old")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": torch.zeros(4, 3, 8, 8)},
        {"labels": None},
        {"targets": Targets(torch.ones(4, 5), "vectors")},
        {"targets": Targets(everything().targets.values, "logits")},
        {"stages": None},
        {"stages": torch.tensor([1, 0, 0, 1])},
        {"form": SetForm(Grid(4), NORMALISED)},
        {"form": SetForm(Grid(2), None)},
        {"form": SetForm(Grid(2), Transform.normalize((0.5,) * 3, (0.2,) * 3))},
    ],
)
def test_fingerprint_sees_whatever_students_see_or_learn(changes):
    weights = {"weights": torch.ones(4)}  # which fit with and without labels
    assert everything(**{**weights, **changes}).fingerprint != everything(**weights).fingerprint


def test_the_recipe_is_no_part_of_the_fingerprint():
    other = SetForm(Grid(2), NORMALISED, None)
    assert everything(form=other).fingerprint == everything().fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "there must be labels or targets"),
        ({"targets": Targets(torch.ones(3, 2), "vectors")}, "a row for every image"),
        ({"parts": {"latents": torch.ones(4, 2)}}, "has no use for latents"),
        ({"stages": torch.tensor([0, 1, 2, -1])}, "stages must be int64"),
        ({"stages": torch.zeros(3, dtype=torch.int64)}, "stages must be int64"),
        ({"form": SetForm(Grid(3))}, "does not divide"),
    ],
)
def test_contradictions_of_format_2_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)


def test_a_set_without_classes_has_one_budget():
    targets = Targets(torch.rand(5, 7), "vectors")
    weights = torch.tensor([0.5, 1.5, 1.0, 1.0, 1.0])
    free = make(
        images=torch.rand(5, 3, 8, 8), labels=None, weights=weights, targets=targets, stages=None
    )
    assert free.ipc == 3  # 5 images for 2 classes
    assert free.effective_ipc == pytest.approx(25 / 5.5 / 2)
    assert free.decode().labels is None
    with pytest.raises(UserError, match="mean 1"):
        replace(free, weights=2 * weights)


def test_plain_sets_decode_to_what_is_stored():
    plain = make(8)
    decoded = plain.decode()
    assert decoded.images is plain.images
    assert torch.equal(decoded.labels, plain.labels)
    assert torch.equal(decoded.weights, plain.weights)
    assert decoded.index.tolist() == list(range(8))
    assert (decoded.targets, decoded.stages, decoded.transform) == (None, None, None)
    assert decoded.gives_pixels


def test_labels_weights_and_targets_follow_the_decoded_images():
    whole = everything()
    decoded = whole.decode()
    assert len(decoded) == 16
    for name in ("labels", "weights", "stages"):
        assert torch.equal(getattr(decoded, name), getattr(whole, name).repeat_interleave(4))
    assert torch.equal(decoded.targets.values, whole.targets.values.repeat_interleave(4, 0))
    assert decoded.transform is NORMALISED
    assert not decoded.gives_pixels
    assert (whole.ipc, len(whole)) == (2, 4)  # the budget counts what is stored


def test_bytes_are_those_of_what_is_stored():
    plain = make(8)
    assert plain.stored_bytes == plain.image_bytes == 8 * 3 * 64
    floats = make(8, images=torch.rand(8, 3, 8, 8))
    assert floats.stored_bytes == floats.image_bytes == 4 * plain.image_bytes
    whole = everything()
    assert whole.image_bytes == 4 * 3 * 64 * 4
    assert (
        whole.stored_bytes - whole.image_bytes == 4 * 5 * 4 + 2 * 3 * 4 + 4
    )  # targets, mean, std, rate


def test_bytes_with_images_of_8_and_of_32_bit():
    plain, floats = make(8), make(8, images=torch.rand(8, 3, 8, 8))
    for distilled in (plain, floats):
        assert (distilled.uint8_bytes, distilled.float_bytes) == (8 * 3 * 64, 4 * 8 * 3 * 64)
    assert (plain.uint8_bytes, floats.float_bytes) == (plain.stored_bytes, floats.stored_bytes)
    assert floats.rounded().stored_bytes == floats.uint8_bytes


def test_a_transform_and_a_learned_rate_are_stored_too():
    floats = make(4, images=torch.rand(4, 3, 8, 8))
    learned = replace(floats, form=SetForm(transform=NORMALISED, recipe=SetRecipe("dsa", lr=0.02)))
    assert learned.stored_bytes - floats.stored_bytes == 2 * 3 * 4 + 4  # mean, std, rate
    assert learned.uint8_bytes - floats.uint8_bytes == 2 * 3 * 4 + 4
    fixed = replace(learned, form=SetForm(transform=NORMALISED, recipe=SetRecipe("dsa")))
    assert learned.stored_bytes - fixed.stored_bytes == 4


def test_a_whitened_grid_has_no_bytes_of_8_bit():
    images = torch.rand(4, 3, 8, 8)
    grid = make(4, images=images, form=SetForm(Grid(2), transform=fit_zca(to_uint8(images))))
    with pytest.raises(UserError, match="cannot be rounded"):
        grid.rounded()
    assert grid.uint8_bytes is None
    assert grid.float_bytes == grid.stored_bytes


def test_rounding_to_8_bit_costs_half_a_level(tmp_path):
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    floats = make(images=images)
    rounded = floats.rounded()
    assert rounded.images.dtype == torch.uint8
    assert rounded.image_bytes * 4 == floats.image_bytes
    assert float((rounded.images / 255 - images).abs().max()) <= 0.5 / 255 + 1e-6
    assert rounded.metadata["set_precision"] == "uint8"
    assert rounded.fingerprint != floats.fingerprint
    assert rounded.rounded() is rounded
    plain = make()
    assert plain.rounded() is plain


@pytest.mark.parametrize("fit", [lambda images: NORMALISED, lambda images: fit_zca(images)])
def test_rounding_goes_through_the_transform(fit):
    pixels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    transform = fit(pixels)
    floats = make(images=transform.apply(pixels), form=SetForm(transform=transform))
    rounded = floats.rounded()
    assert float((rounded.images / 255 - pixels).abs().max()) <= 0.5 / 255 + 1e-4
    assert rounded.form.transform is transform
    assert rounded.decode().gives_pixels  # networks map them, as they map the test images


def test_a_whitened_grid_cannot_be_rounded():
    transform = fit_zca(torch.rand(9, 3, 8, 8))
    with pytest.raises(UserError, match="'grid' and whitening cannot be rounded"):
        everything(form=SetForm(Grid(2), transform)).rounded()


def test_a_transform_of_another_size_is_refused():
    transform = fit_zca(torch.rand(9, 3, 4, 4))
    with pytest.raises(UserError, match="does not fit images"):
        make(images=torch.rand(4, 3, 8, 8), form=SetForm(transform=transform)).decode()


def test_a_folder_may_be_given_as_text(tmp_path):
    tiny = DistilledSet(
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), torch.ones(2), ["a", "b"]
    )
    tiny.save(str(tmp_path / "set"))
    assert DistilledSet.exists(str(tmp_path / "set"))
    loaded = DistilledSet.load(str(tmp_path / "set"))
    assert loaded.fingerprint == DistilledSet.load(tmp_path / "set").fingerprint
    with pytest.raises(UserError, match="gone"):
        DistilledSet.load(str(tmp_path / "gone"))
