import io
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from ddoq.data import HuggingFaceImages, imagenet_indices, load_registry
from ddoq.data.tables import ParquetSource, RowSplit
from ddoq.errors import UserError

NAMES = ["apple", "aquarium_fish", "baby", "beaver"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def pixels_of(n, size=(6, 6), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def encode(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(
    path, labels, feature=None, *, seed=0, size=(6, 6), columns=("image", "label"), broken=()
):
    """Store random images under these labels as parquet."""
    cells = [encode(pixels) for pixels in pixels_of(len(labels), size, seed)]
    for row in broken:
        cells[row] = {"bytes": b"broken", "path": None}
    feature = datasets.ClassLabel(names=NAMES) if feature is None else feature
    features = datasets.Features({columns[0]: datasets.Image(), columns[1]: feature})
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {columns[0]: cells, columns[1]: list(labels)}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    return path


def module(train, test, **kwargs) -> HuggingFaceImages:
    settings = {"image_size": 6, "dataset_name": "tiny"} | kwargs
    return HuggingFaceImages(train_files=train, test_files=test, **settings)


def ready(*args, **kwargs) -> HuggingFaceImages:
    data = module(*args, **kwargs)
    data.setup()
    return data


@pytest.fixture
def files(tmp_path):
    train = write(tmp_path / "train.parquet", [3, 0, 1, 2, 1, 0, 3, 2])
    return str(train), str(write(tmp_path / "test.parquet", [0, 1, 2, 3], seed=1))


def test_images_labels_and_order(files):
    data = ready(*files)
    assert torch.equal(
        data.train.load(range(8)), torch.from_numpy(pixels_of(8)).permute(0, 3, 1, 2)
    )
    assert data.train.labels.tolist() == [3, 0, 1, 2, 1, 0, 3, 2]
    assert data.classes.keys == NAMES
    assert data.classes[1].prompt == "a photo of a aquarium fish"
    assert torch.equal(data.train.load([5, 2]), data.train.load(range(8))[[5, 2]])


def test_class_label_order_is_kept_even_if_not_alphabetical(tmp_path):
    feature = datasets.ClassLabel(names=["zebra", "ant", "10", "9"])
    data = ready(*(str(write(tmp_path / f"{s}.parquet", [2, 0, 3, 1], feature)) for s in "ab"))
    assert data.classes.keys == ["zebra", "ant", "10", "9"]
    assert data.train.labels.tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize(
    ("train", "test", "kind", "keys", "expected"),
    [
        ([10, 2, 10, 7], [2, 7, 10], "int64", ["2", "7", "10"], [2, 0, 2, 1]),
        (["cat", "ant"], ["ant", "cat"], "string", ["ant", "cat"], [1, 0]),
    ],
)
def test_bare_labels_are_sorted(tmp_path, train, test, kind, keys, expected):
    feature = datasets.Value(kind)
    paths = [str(write(tmp_path / f"{i}.parquet", x, feature)) for i, x in enumerate((train, test))]
    data = ready(*paths)
    assert data.classes.keys == keys
    assert data.train.labels.tolist() == expected


def test_missing_classes_are_an_error_that_names_the_option(tmp_path):
    paths = [str(write(tmp_path / f"{i}.parquet", [3, 1, 3])) for i in range(2)]
    with pytest.raises(
        UserError, match=r"no image of 2 of 4 classes: apple, baby.*`only_present_classes: true`"
    ):
        ready(*paths)


def test_only_present_classes_renumbers_and_keeps_keys(tmp_path):
    train = write(tmp_path / "train.parquet", [3, 1, 3, 2])  # 2 has no test image
    test = write(tmp_path / "test.parquet", [0, 1, 3, 0, 1], seed=1)  # 0 has no training image
    names = dict(zip(NAMES, ["Apfel", "Fisch", "Kind", "Biber"], strict=True))
    data = ready(str(train), str(test), only_present_classes=True, class_names=names)
    assert data.classes.keys == ["aquarium_fish", "beaver"]
    assert data.classes.names == ["Fisch", "Biber"]
    assert [item.index for item in data.classes] == [0, 1]
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.test.labels.tolist() == [0, 1, 0]
    expected = torch.from_numpy(pixels_of(5, seed=1)[[1, 2, 4]]).permute(0, 3, 1, 2)
    assert torch.equal(data.test.load(range(3)), expected)


def test_splits_that_share_no_class(tmp_path):
    paths = [str(write(tmp_path / f"{i}.parquet", [i])) for i in range(2)]
    with pytest.raises(UserError, match="no class in common"):
        ready(*paths, only_present_classes=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["apple", "baby", "aquarium_fish", "beaver"], "label 1 is 'aquarium_fish' and 'baby'"),
        (NAMES[:3], "4 and 3 classes"),
        (None, "bare labels"),
    ],
)
def test_splits_must_number_classes_alike(tmp_path, names, message):
    train = write(tmp_path / "train.parquet", [0, 1, 2])
    feature = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    test = write(tmp_path / "test.parquet", [0, 1, 2], feature)
    with pytest.raises(UserError, match=message):
        ready(str(train), str(test))


def test_files_of_one_split_must_number_classes_alike(tmp_path):
    write(tmp_path / "a.parquet", [0, 1, 2, 3])
    write(tmp_path / "b.parquet", [0, 1, 2, 3], datasets.ClassLabel(names=NAMES[::-1]))
    with pytest.raises(
        UserError, match=r"b\.parquet has other columns or class names than .*a\.parquet"
    ):
        ready(str(tmp_path / "?.parquet"), str(tmp_path / "a.parquet"))


def test_patterns_lists_and_odd_folders(tmp_path, files):
    folder = tmp_path / "odd [1] name"
    for i, labels in enumerate(([0, 1], [2, 3])):
        write(folder / f"part-{i}.parquet", labels, seed=i)
    data = ready([str(folder / "part-1.parquet"), str(folder / "part-0.parquet")], files[1])
    assert data.train.labels.tolist() == [2, 3, 0, 1]
    by_pattern = ready(str(tmp_path / "odd*" / "part-*.parquet"), files[1])
    assert by_pattern.train.labels.tolist() == [0, 1, 2, 3]


def test_a_corrupt_image_is_named_by_file_and_row(tmp_path, files):
    write(tmp_path / "parts" / "a.parquet", [0, 1, 2])
    write(tmp_path / "parts" / "b.parquet", [3, 0, 1], broken=[2])
    data = module(str(tmp_path / "parts" / "*.parquet"), files[1])
    train, _, _ = data.load_splits()
    assert train.load(range(5)).shape == (5, 3, 6, 6)
    with pytest.raises(UserError, match=r"b\.parquet, row 2: the image cannot be decoded"):
        train.load(range(6))


def test_all_corrupt_images_are_named_at_the_start(tmp_path):
    train = write(tmp_path / "train.parquet", [0, 1, 2, 3], broken=[1, 3])
    test = write(tmp_path / "test.parquet", [0, 1, 2, 3], broken=[0])
    with pytest.raises(UserError, match="3 images cannot be used") as caught:
        ready(str(train), str(test))
    for place in ("train.parquet, row 1", "train.parquet, row 3", "test.parquet, row 0"):
        assert place in str(caught.value)


def test_rows_of_the_hub_may_name_files_of_its_cache(tmp_path):
    inside, outside = tmp_path / "cache" / "a.png", tmp_path / "cache" / ".." / "b.png"
    inside.parent.mkdir()
    for path in (inside, outside):
        path.write_bytes(encode(pixels_of(1)[0])["bytes"])
    cells = [{"bytes": None, "path": str(path)} for path in (inside, outside)] + [None]
    rows = {"image": cells, "label": [0, 1, 2]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict(rows, features)
    split = RowSplit(
        table, "image", torch.arange(3), 6, lambda row: f"row {row}", folders=[tmp_path / "cache"]
    )
    assert split.load([0]).shape == (1, 3, 6, 6)
    with pytest.raises(UserError, match=r"row 1: it is the file '.*b\.png' and not in the table"):
        split.load([1])
    assert [fault.partition(":")[0] for fault in split.faults()] == ["row 1", "row 2"]


def test_bounds_hold_for_rows(files):
    assert len(ready(*files, max_pixels=36).train) == 8
    with pytest.raises(UserError, match=r"row 0: .*6 x 6 pixels, more than max_pixels 35"):
        ready(*files, max_pixels=35)


def test_a_row_that_names_a_file_is_refused(tmp_path, files):
    """The hash of the table would not cover the file, which may lie anywhere."""
    image = tmp_path / "elsewhere.png"
    image.write_bytes(encode(pixels_of(1)[0])["bytes"])
    rows = {"image": [{"bytes": None, "path": str(image)}] * 4, "label": list(range(4))}
    label = datasets.ClassLabel(names=NAMES)
    schema = datasets.Features({"image": datasets.Image(), "label": label}).arrow_schema
    linked = tmp_path / "linked.parquet"
    pq.write_table(pa.table(rows, schema=schema), linked)
    with pytest.raises(
        UserError, match=r"linked\.parquet, row 0: it is the file '.*elsewhere\.png'"
    ):
        ready(str(linked), files[1])


def test_mistakes_in_columns_list_what_there_is(tmp_path, files):
    train = write(tmp_path / "c100.parquet", [0, 1, 2, 3], columns=("img", "fine_label"))
    with pytest.raises(
        UserError, match=r"no column 'image'\. Set `image_column` to one of: img, fine_label"
    ):
        ready(str(train), str(train))
    with pytest.raises(
        UserError, match=r"no column 'label'\. Set `label_column` to one of: img, fine_label"
    ):
        ready(str(train), str(train), image_column="img")
    with pytest.raises(UserError, match="'label' does not hold encoded images"):
        ready(*files, image_column="label")
    data = ready(str(train), str(train), image_column="img", label_column="fine_label")
    assert data.num_classes == 4


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        ([0, None, 1], datasets.Value("int64"), "row 1 has no label"),
        ([0.5, 1.5], datasets.Value("float32"), "holds float values"),
        ([[0, 1], [1]], datasets.List(datasets.Value("int64")), "holds list values"),
        ([0, 1, -1], None, "labels outside 0..3"),
    ],
)
def test_mistakes_in_labels(tmp_path, files, labels, feature, message):
    path = write(tmp_path / "bad.parquet", labels, feature)
    with pytest.raises(UserError, match=message):
        ready(str(path), str(path))


def test_mistakes_in_files(tmp_path, files):
    with pytest.raises(UserError, match=r"test_files: no file matches .*gone\*\.parquet"):
        ready(files[0], str(tmp_path / "gone*.parquet"))
    (tmp_path / "half.parquet").write_bytes((tmp_path / "train.parquet").read_bytes()[:100])
    with pytest.raises(UserError, match=r"half\.parquet is not a readable parquet file"):
        ready(str(tmp_path / "half.parquet"), files[1])
    (tmp_path / "nothing.parquet").touch()
    with pytest.raises(UserError, match=r"nothing\.parquet is empty \(0 bytes\), no parquet file"):
        ready(str(tmp_path / "nothing.parquet"), files[1])
    rowless = write(tmp_path / "rowless.parquet", [])
    with pytest.raises(UserError, match=r"train_files \(.*rowless\.parquet\) has no rows"):
        ready(str(rowless), files[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `path`"),
        ({"train_files": "a.parquet"}, "both `train_files` and `test_files`"),
        ({"path": "x/y", "train_files": "a.parquet"}, "not both"),
        ({"train_files": "a.parquet", "test_files": "b.parquet"}, "Give `dataset_name`"),
    ],
)
def test_mistakes_in_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        HuggingFaceImages(image_size=6, **arguments)


def test_without_a_network_the_hub_gives_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"someone/images: no network.*pass `train_files`"):
        HuggingFaceImages(image_size=6, path="someone/images").setup()
    with pytest.raises(UserError, match="is a local folder"):
        HuggingFaceImages(image_size=6, path=str(tmp_path)).setup()


def test_hub_datasets_are_known_by_revision(tmp_path, files, monkeypatch):
    real = datasets.load_dataset_builder

    def hub(path, name, revision):
        builder = real("parquet", data_files={"train": files[0], "test": files[1]})
        builder.hash = revision or "main"
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", hub)

    def loaded(**kwargs):
        data = HuggingFaceImages(image_size=6, path="someone/images", **kwargs)
        data.setup()
        return data

    data = loaded()
    assert data.name == "images"
    assert data.classes.keys == NAMES
    assert (len(data.train), len(data.test)) == (8, 4)
    assert loaded().fingerprint == data.fingerprint != loaded(revision="v2").fingerprint
    with pytest.raises(UserError, match=r"someone/images: .*validation"):
        loaded(test_split="validation")


def test_images_are_decoded_once(files, monkeypatch):
    from ddoq.data.tables import RowSplit

    decoded = []
    plain_load = RowSplit.load
    monkeypatch.setattr(RowSplit, "load", lambda self, i: decoded.extend(i) or plain_load(self, i))
    data = ready(*files)
    assert decoded == []
    first = data.train.load(range(8))
    assert torch.equal(data.train.load(range(8)), first)
    assert sorted(decoded) == list(range(8))
    uncached = ready(*files, cache_images=False)
    decoded.clear()
    assert torch.equal(uncached.train.load([1, 1]), first[[1, 1]])
    assert decoded == [1, 1]


def test_loaders_with_workers_give_the_same_images(files):
    data = ready(*files, cache_images=False, num_workers=2, batch_size=3)
    images = torch.cat([images for images, _ in data.test_dataloader()])
    assert torch.equal(images, torch.from_numpy(pixels_of(4, seed=1)).permute(0, 3, 1, 2))


def test_other_sizes_are_brought_to_the_size_asked_for(tmp_path, files):
    train = write(tmp_path / "wide.parquet", [0, 1, 2, 3], size=(10, 20))
    assert ready(str(train), files[1], image_size=5).train.load(range(4)).shape == (4, 3, 5, 5)


def test_stretching_and_centring_replace_each_other(tmp_path, files):
    train = write(tmp_path / "wide.parquet", [0, 1, 2, 3], size=(10, 20))
    rows = ready(str(train), files[1], image_size=5, cache_images=False).train
    stretched, centred = rows.at_size(8, stretch=True), rows.centred(5, 8)
    shown = [split.load(range(4)) for split in (rows.at_size(8), stretched, centred)]
    assert not torch.equal(shown[0], shown[1])
    assert torch.equal(shown[2], tv.center_crop(shown[0], [5, 5]))
    assert torch.equal(centred.at_size(8, stretch=True).load(range(4)), shown[1])
    assert torch.equal(centred.at_size(8).load(range(4)), shown[0])
    assert torch.equal(stretched.centred(5, 8).load(range(4)), shown[2])


def test_fingerprint_follows_contents_not_places(tmp_path, files):
    base = ready(*files).fingerprint
    moved = [
        str(shutil.copy(file, tmp_path / f"moved-{i}.parquet")) for i, file in enumerate(files)
    ]
    assert ready(*moved, batch_size=2, num_workers=1, cache_images=False).fingerprint == base
    changed = str(write(tmp_path / "other.parquet", [3, 0, 1, 2, 1, 0, 3, 2], seed=5))
    others = [
        ready(changed, files[1]),
        ready(files[0], str(write(tmp_path / "other-test.parquet", [0, 1, 2, 3], seed=6))),
        ready(files[1], files[0]),
        ready(*files, image_size=4),
        ready(*files, limit_per_class=1),
        ready(*files, test_limit_per_class=1),
    ]
    assert len({base, *(data.fingerprint for data in others)}) == len(others) + 1


def test_what_classes_are_called_is_no_part_of_the_fingerprint(files):
    base = ready(*files)
    for changes in ({"prompt": "{name}"}, {"class_names": ["a", "b", "c", "d"]}):
        renamed = ready(*files, **changes)
        assert renamed.classes.prompts != base.classes.prompts
        assert renamed.fingerprint == base.fingerprint


def test_rows_are_named_by_their_file(tmp_path):
    for name, labels in (("a", [0, 1]), ("b", [2]), ("c", [3, 0, 1])):
        write(tmp_path / f"{name}.parquet", labels)
    source = ParquetSource("train_files", str(tmp_path / "*.parquet"))
    source.open()
    places = [source.row(i).rsplit("/", 1)[1] for i in range(6)]
    expected = [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1), ("c", 2)]
    assert places == [f"{name}.parquet, row {row}" for name, row in expected]


DOGS = load_registry("imagewoof")
THOUSAND = load_registry("imagenet-1k")


def label_of(names):
    return datasets.ClassLabel(names=list(names))


@pytest.mark.parametrize("names", [DOGS.keys, DOGS.names], ids=["ids", "words"])
def test_a_registry_accepts_its_own_order(tmp_path, names):
    file = write(tmp_path / "a.parquet", range(10), label_of(names))
    data = ready(str(file), str(file), registry="imagewoof", prompt="{name}")
    assert data.classes.keys == DOGS.keys
    assert data.classes[9].prompt == "dingo wild dog"
    assert data.train.labels.tolist() == list(range(10))


def test_a_registry_refuses_another_order_and_names_the_first_difference(tmp_path):
    keys = list(DOGS.keys)
    keys[3], keys[8] = keys[8], keys[3]
    file = write(tmp_path / "a.parquet", range(10), label_of(keys))
    with pytest.raises(
        UserError,
        match=rf"train_files.*label 3 is '{keys[3]}', which is class 8 there; class 3 is ",
    ):
        ready(str(file), str(file), registry="imagewoof")
    with pytest.raises(UserError, match=r"has 10 classes.*tiny-imagenet has 200"):
        ready(str(file), str(file), registry="tiny-imagenet")
    with pytest.raises(UserError, match="Unknown registry 'woof'"):
        module(str(file), str(file), registry="woof")


@pytest.mark.parametrize("names", [THOUSAND.keys, THOUSAND.names], ids=["ids", "words"])
def test_a_part_is_picked_out_of_the_whole(tmp_path, names):
    numbers = imagenet_indices(DOGS)
    labels = [0, *reversed(numbers), 999]
    file = write(tmp_path / "a.parquet", labels, label_of(names))
    whole = module(str(file), str(file))
    data = ready(str(file), str(file), registry="imagewoof")
    assert data.classes.keys == DOGS.keys
    assert data.train.labels.tolist() == list(range(9, -1, -1))
    whole_train = whole.load_splits()[0]
    assert torch.equal(data.train.load(range(10)), whole_train.load(range(1, 11)))


def test_texts_are_sorted_into_the_registry(tmp_path):
    texts = list(reversed(DOGS.keys))
    file = write(tmp_path / "a.parquet", texts, datasets.Value("string"))
    data = ready(str(file), str(file), registry="imagewoof")
    assert data.train.labels.tolist() == list(range(9, -1, -1))


def test_plain_integers_are_the_numbers_of_the_registry(tmp_path):
    file = write(tmp_path / "a.parquet", range(10), datasets.Value("int64"))
    assert ready(str(file), str(file), registry="imagewoof").classes.keys == DOGS.keys
    # Without a registry the labels 1..9 would be numbered 0..8; with one they are what they say.
    some = write(tmp_path / "b.parquet", range(1, 10), datasets.Value("int64"))
    with pytest.raises(UserError, match="no image of 1 of 10 classes: Shih-Tzu dog"):
        ready(str(some), str(some), registry="imagewoof")
    data = ready(str(some), str(some), registry="imagewoof", only_present_classes=True)
    assert data.classes.keys == DOGS.keys[1:]
    beyond = write(tmp_path / "c.parquet", range(11), datasets.Value("int64"))
    with pytest.raises(UserError, match=r"labels outside 0\.\.9"):
        ready(str(beyond), str(beyond), registry="imagewoof")


def test_images_without_labels_are_refused_where_a_part_is_picked(tmp_path):
    good = write(tmp_path / "a.parquet", imagenet_indices(DOGS), label_of(THOUSAND.keys))
    none = write(tmp_path / "b.parquet", [-1] * 3, label_of(THOUSAND.keys))
    with pytest.raises(UserError, match=r"test_files.*has the label -1.*not labelled"):
        ready(str(good), str(none), registry="imagewoof")


def test_names_of_a_registry_can_be_told_otherwise(tmp_path):
    file = write(tmp_path / "a.parquet", range(10), label_of(DOGS.keys))
    names = [f"dog {number}" for number in range(10)]
    data = ready(str(file), str(file), registry="imagewoof", class_names=names)
    assert (data.classes[4].key, data.classes[4].name) == (DOGS.keys[4], "dog 4")


@pytest.mark.parametrize("cached", [True, False])
def test_a_larger_size_is_decoded_from_the_rows(tmp_path, cached):
    file = write(tmp_path / "a.parquet", [0, 1, 2, 3], size=(12, 12))
    data = ready(str(file), str(file), cache_images=cached)
    reference = ready(str(file), str(file), image_size=12)
    assert torch.equal(data.train.at_size(12).load(range(4)), reference.train.load(range(4)))
    assert data.train.load([0]).shape[-1] == 6
    assert data.train.at_size(6) is data.train


def test_real_tiny_imagenet():
    """Shard 0 of the dataset's parquet files, with 50 of the 200 classes."""
    folder = os.environ.get("DDOQ_TEST_TINY_IMAGENET")
    if not folder or not (Path(folder) / "train-00000-of-00004.parquet").is_file():
        pytest.skip("DDOQ_TEST_TINY_IMAGENET names no folder with the dataset's parquet files")
    files = [str(Path(folder) / f"{split}-00000-of-00004.parquet") for split in ("train", "val")]
    settings = {"image_size": 64, "registry": "tiny-imagenet", "prompt": "{name}"}
    with pytest.raises(UserError, match="no image of 150 of 200 classes"):
        ready(*files, **settings)
    data = ready(*files, only_present_classes=True, **settings)
    assert data.classes.keys == load_registry("tiny-imagenet").keys[:50]
    assert (len(data.train), len(data.test)) == (25_000, 2_500)
    assert torch.bincount(data.train.labels).tolist() == [500] * 50
    numbers = imagenet_indices(data.classes)
    assert (data.classes[0].prompt, numbers[0]) == ("goldfish", 1)
    with pytest.raises(UserError, match="imagenet-1k has 1000"):
        ready(*files, image_size=64, registry="imagenet-1k")
