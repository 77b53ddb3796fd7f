import json
from dataclasses import replace

import datasets
import pytest
import torch
from PIL import Image

from ddoq.data.decoding import ImageLimits
from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import fit_zca
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.exchange import LAYOUTS, ClassList, Columns, export_set, import_set
from ddoq.exchange.parquet import FILE
from ddoq.labels.targets import Targets

PETS = ClassList(["cat", "dog", "hen"], ["n1", "n2", "n3"], "a list")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", [None, [5, 0, 3, 1, 4, 2]])
def test_round_trips_are_exact(tmp_path, make_set, layout, order):
    original = make_set(order=order, metadata={"method": "m", "settings": {"a": [1, None, 0.1]}})
    export_set(original, tmp_path / "out", layout)
    back = import_set(tmp_path / "out")
    assert torch.equal(back.images, original.images)
    assert torch.equal(back.labels, original.labels)
    assert torch.equal(back.weights, original.weights)
    assert back.class_names == original.class_names
    assert back.metadata == original.metadata
    assert back.fingerprint == original.fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_of_awkward_names_and_shapes(tmp_path, make_set, layout):
    original = make_set(["crane", 'a,"b"\n/c', "crane"], metadata={})
    original.images = original.images[..., :4]
    export_set(original, tmp_path / "out", layout)
    back = import_set(tmp_path / "out")
    assert back.class_names == original.class_names
    assert back.fingerprint == original.fingerprint


def rich(make_set) -> DistilledSet:
    plain = make_set()
    form = SetForm(Grid(2), fit_zca(plain.images), SetRecipe("dsa", {"epochs": 3}, lr=0.02))
    targets = Targets(torch.rand(6, 4, generator=torch.Generator().manual_seed(1)), "vectors")
    return replace(plain, targets=targets, stages=torch.arange(6) % 2, form=form)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_targets_stages_and_form_travel_along(tmp_path, make_set, layout):
    original = rich(make_set)
    export_set(original, tmp_path / "out", layout)
    back = import_set(tmp_path / "out")
    assert back.fingerprint == original.fingerprint
    assert torch.equal(back.targets.values, original.targets.values)
    assert torch.equal(back.stages, original.stages)
    assert (back.form.decoder, back.form.recipe) == (original.form.decoder, original.form.recipe)
    assert torch.equal(back.form.transform.zca, original.form.transform.zca)
    assert back.metadata == original.metadata
    card = (tmp_path / "out" / "README.md").read_text()
    for fact in ("grid, factor 2", "vectors of length 4", "whitened (ZCA)"):
        assert fact in card
    with pytest.raises(UserError, match="belong to images of 6 pixels: omit --image-size"):
        import_set(tmp_path / "out", image_size=3)


def test_a_lost_or_exchanged_file_of_targets_is_noticed(tmp_path, make_set):
    export_set(rich(make_set), tmp_path / "out", "parquet")
    (tmp_path / "out" / "further.safetensors").unlink()
    with pytest.raises(UserError, match="not what was exported"):
        import_set(tmp_path / "out")


def test_a_plain_export_is_what_earlier_versions_read(tmp_path, make_set):
    export_set(make_set(), tmp_path / "out", "parquet")
    record = json.loads((tmp_path / "out" / "metadata.json").read_text())
    assert (record["format"], "read" in record) == (1, False)
    assert not (tmp_path / "out" / "further.safetensors").exists()
    export_set(rich(make_set), tmp_path / "rich", "parquet")
    assert json.loads((tmp_path / "rich" / "metadata.json").read_text())["format"] == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_no_file_of_pngs_can_hold_is_refused(tmp_path, make_set, layout):
    plain = make_set()
    floats = replace(plain, images=plain.images / 255)
    targets = Targets(torch.ones(6, 4), "vectors")
    free = replace(plain, labels=None, weights=torch.ones(6), targets=targets)
    for broken, message in (
        (floats, "float images, which PNG files cannot: round them .* --set-precision uint8"),
        (free, "belong to no class"),
    ):
        with pytest.raises(UserError, match=message):
            export_set(broken, tmp_path / "out", layout)
        assert not (tmp_path / "out").exists()
    export_set(floats.rounded(), tmp_path / "out", layout)
    back = import_set(tmp_path / "out")
    assert torch.equal(back.images, plain.images)
    assert back.metadata["set_precision"] == "uint8"


def test_a_class_without_images_survives_in_parquet(tmp_path, make_set):
    original = make_set(order=[0, 1, 4, 5])
    export_set(original, tmp_path / "out", "parquet")
    assert import_set(tmp_path / "out").fingerprint == original.fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_changed_exports_are_refused(tmp_path, make_set, layout):
    out = tmp_path / "out"
    export_set(make_set(), out, layout)
    record = json.loads((out / "metadata.json").read_text())
    del record["checksum"]
    (out / "metadata.json").write_text(json.dumps({**record, "fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="not what was exported"):
        import_set(out)


def test_a_changed_image_is_noticed_and_may_become_a_set_of_its_own(tmp_path, make_set):
    out = tmp_path / "out"
    original = make_set()
    export_set(original, out, "imagefolder")
    Image.new("RGB", (6, 6)).save(out / "0001_dog" / "00002.png")
    with pytest.raises(UserError, match=r"delete .*metadata\.json"):
        import_set(out)
    (out / "metadata.json").unlink()
    back = import_set(out, method="mine")
    assert back.class_names == original.class_names
    assert back.images[2].max() == 0
    assert back.metadata["method"] == "mine"


def test_options_that_contradict_an_export(tmp_path, make_set):
    out = tmp_path / "out"
    export_set(make_set(), out, "parquet")
    with pytest.raises(UserError, match="method 'ddoq', not 'rded': omit --method"):
        import_set(out, method="rded")
    with pytest.raises(UserError, match="omit --collage"):
        import_set(out, collage=2)
    with pytest.raises(UserError, match="others, or in another order"):
        import_set(out, ClassList(["dog", "tabby cat", "crane"], None, "a list"))
    with pytest.raises(UserError, match="others, or in another order"):
        import_set(out, ClassList(["a", "b", "c"], ["n1", "n0", "n2"], "a list"))
    expected = make_set().fingerprint
    for classes in (["tabby cat", "dog", "crane"], ["n0", "n1", "n2"]):
        same = import_set(out, ClassList(classes, None, "a list"), method="ddoq", image_size=6)
        assert same.fingerprint == expected
        assert same.metadata == make_set().metadata


def test_a_resized_export_is_another_set(tmp_path, make_set):
    original = make_set(size=8)
    export_set(original, tmp_path / "out", "imagefolder")
    small = import_set(tmp_path / "out", image_size=4)
    assert small.images.shape == (6, 3, 4, 4)
    assert torch.equal(small.weights, original.weights)
    assert "seed" not in small.metadata  # such rows must not stand for the original
    assert small.metadata["imported"]["original"] == original.metadata
    assert small.metadata["imported"]["original_fingerprint"] == original.fingerprint
    assert small.metadata["imported"]["stored_size"] == [8, 8]


@pytest.mark.parametrize("style", ["{:05d}", "new{:03d}", "n{}"])
def test_foreign_folders(folder_of, style):
    start = 1 if style == "n{}" else 0
    root = folder_of([style.format(i + start) for i in range(3)])
    found = import_set(root, PETS, method="rded", collage=2)
    assert found.class_names == PETS.names
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    levels = found.images.float().mean((1, 2, 3)).round().tolist()
    assert levels == pytest.approx([0, 5, 20, 25, 40, 45], abs=1)
    assert found.weights.tolist() == [1.0] * 6
    assert found.metadata["class_keys"] == PETS.keys
    assert (found.metadata["method"], found.metadata["ipc"]) == ("rded", 2)
    assert found.metadata["collage"] == 2
    origin = found.metadata["imported"]
    assert (origin["codec"], origin["stored_size"], origin["resized"]) == ("jpeg", [6, 6], False)
    assert len(origin["files_fingerprint"]) == 16


def test_foreign_sets_survive_saving_and_export(tmp_path, folder_of):
    found = import_set(folder_of(["cat", "dog", "hen"], suffix=".png"), PETS, method="x")
    found.save(tmp_path / "set")
    loaded = DistilledSet.load(tmp_path / "set")
    assert loaded.metadata == found.metadata
    export_set(loaded, tmp_path / "out", "parquet")
    assert import_set(tmp_path / "out").metadata == found.metadata


def test_resizing_foreign_images(folder_of):
    root = folder_of(["cat", "dog", "hen"], size=(10, 8))
    found = import_set(root, PETS, method="x", image_size=4)
    assert found.images.shape == (6, 3, 4, 4)
    assert found.metadata["imported"]["stored_size"] == [8, 10]
    assert found.metadata["imported"]["resized"] is True


def test_rows_of_a_file_are_sorted_by_label(tmp_path, make_set):
    order = [5, 0, 3, 1, 4, 2]
    export_set(make_set(order=order), tmp_path / "out", "parquet")
    file = tmp_path / "out" / FILE  # the file alone, without its record
    found = import_set(file, method="x")
    by_label = [1, 3, 2, 5, 0, 4]
    assert torch.equal(found.images, make_set(order=order).images[by_label])
    assert torch.equal(found.weights, make_set(order=order).weights[by_label])
    assert found.metadata["imported"]["weights"] == "stored"
    ones = import_set(file, method="x", columns=Columns(weight=None))
    assert ones.weights.tolist() == [1.0] * 6


def test_weights_of_another_scale_are_not_mended_silently(tmp_path, make_set):
    export_set(make_set(), tmp_path / "out", "parquet")
    file = tmp_path / "out" / FILE
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "c"))
    rows.map(lambda row: {"weight": 2 * row["weight"]}).to_parquet(str(tmp_path / "twice.parquet"))
    with pytest.raises(UserError, match=r"twice.parquet: .*mean 1.*--weight-column none"):
        import_set(tmp_path / "twice.parquet", method="x")


def test_mistakes_are_told(tmp_path, make_set, folder_of):
    root = folder_of(["cat", "dog", "hen"])
    for source, options, message in [
        (root, {}, "--method"),
        (tmp_path / "missing", {"method": "x"}, "does not exist"),
        (root / "cat" / "image0.jpg", {"method": "x"}, "neither a folder nor a .parquet"),
        (root, {"method": "x", "image_size": 0}, "--image-size must be at least 1"),
        (root, {"method": "x", "collage": 0}, "--collage"),
    ]:
        with pytest.raises(UserError, match=message):
            import_set(source, PETS, **options)
    with pytest.raises(UserError, match="no image of 1 of 4 classes: 3"):
        import_set(root, ClassList(["cat", "dog", "hen", "owl"], None, "a list"), method="x")
    make_set().save(tmp_path / "set")
    with pytest.raises(UserError, match="is a distilled set already"):
        import_set(tmp_path / "set", PETS, method="x")
    with pytest.raises(UserError, match="Unknown format 'tar'"):
        export_set(make_set(), tmp_path / "out", "tar")
    export_set(make_set(), tmp_path / "gone", "parquet")
    (tmp_path / "gone" / FILE).unlink()
    with pytest.raises(UserError, match="parquet file is gone"):
        import_set(tmp_path / "gone")


def test_links_that_lead_out_are_refused_unless_asked_for(tmp_path, folder_of):
    root = folder_of(["00000", "00001", "00002"])
    secret = tmp_path / "secret.jpg"
    (root / "00001" / "image1.jpg").rename(secret)
    (root / "00001" / "image1.jpg").symlink_to(secret)
    (root / "00002" / "again.jpg").symlink_to(root / "00002" / "image0.jpg")  # stays inside
    with pytest.raises(
        UserError, match=r"1 symbolic links lead .*00001/image1\.jpg -> .*secret"
    ) as e:
        import_set(root, PETS, method="x")
    assert "--follow-links" in str(e.value)
    assert len(import_set(root, PETS, method="x", follow_links=True)) == 7


def test_a_folder_behind_a_link_is_refused(tmp_path, folder_of):
    root = folder_of(["00000", "00001", "00002"])
    (root / "00002").rename(tmp_path / "away")
    (root / "00002").symlink_to(tmp_path / "away")
    with pytest.raises(UserError, match=r"symbolic links lead out of .*00002 -> "):
        import_set(root, PETS, method="x")
    (tmp_path / "link").symlink_to(root)
    (root / "00002").unlink()
    (tmp_path / "away").rename(root / "00002")
    assert (
        len(import_set(tmp_path / "link", PETS, method="x")) == 6
    )  # the source itself may be a link


def test_bounds_hold_for_imports(tmp_path, folder_of):
    root = folder_of(["00000", "00001", "00002"])
    Image.new("1", (1, 100_000)).save(root / "00001" / "image1.jpg", "PNG")
    with pytest.raises(UserError, match=r"image1\.jpg: .*max_aspect_ratio 100"):
        import_set(root, PETS, method="x", image_size=64)
    limits = ImageLimits(max_aspect_ratio=1e6)
    found = import_set(root, PETS, method="x", image_size=64, limits=limits)
    assert found.images.shape == (6, 3, 64, 64)


@pytest.mark.parametrize("size", [0, -1, 100_000])
def test_a_side_that_cannot_be_is_refused(tmp_path, size):
    with pytest.raises(UserError, match="--image-size must be at least 1 and at most 4096"):
        import_set(tmp_path, PETS, method="x", image_size=size)


STRANGE = [
    "\u732b",
    "Cat",
    "cat",
    "../a/b\x00\x1b\r\n",
    "..",
    "long " * 200,
    "=1+1",
    " ",
    "\u732b cat",
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strange_names_survive(tmp_path, make_set, layout):
    original = make_set(STRANGE, metadata={})
    export_set(original, tmp_path / "out", layout)
    written = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*")]
    assert all(str(path).isascii() and len(path.name) < 80 for path in written)
    assert len({str(path).lower() for path in written}) == len(written)  # on any file system
    back = import_set(tmp_path / "out")
    assert back.class_names == STRANGE
    assert back.fingerprint == original.fingerprint


def test_an_export_without_its_record_matches_its_classes(tmp_path, make_set):
    names = ["\u732b", "\u732b cat", "dog"]
    export_set(make_set(names, metadata={}), tmp_path / "out", "imagefolder")
    (tmp_path / "out" / "metadata.json").unlink()
    found = import_set(tmp_path / "out", ClassList(names, None, "a list"), method="x")
    assert found.class_names == names


def test_names_that_no_file_can_hold_are_refused():
    with pytest.raises(UserError, match=r"a list: the class name 'caf\\udce9' is not UTF-8"):
        ClassList(["caf\udce9"], None, "a list")


def test_classes_that_share_names_and_keys_stay_apart(tmp_path, make_set):
    original = make_set(["a", "a", "a (n1)"])
    export_set(original, tmp_path / "out", "parquet")
    assert import_set(tmp_path / "out").class_names == original.class_names
