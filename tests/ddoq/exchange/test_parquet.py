import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ddoq.data import HuggingFaceImages
from ddoq.errors import UserError
from ddoq.exchange import Columns, export_set
from ddoq.exchange.classes import ClassList
from ddoq.exchange.parquet import FILE, list_parquet, parquet_files

PETS = ClassList(["cat", "dog", "hen"], ["n1", "n2", "n3"], "a list")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def picture(level: int) -> dict:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (level,) * 3).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.fixture
def file_of(tmp_path):
    """Write a file of rows as others might."""

    def write(labels, label_feature=None, image="image", name="set.parquet", **columns):
        values = {image: [picture(10 * i) for i in range(len(labels))], "label": labels, **columns}
        features = datasets.Features(
            {
                image: datasets.Image(),
                "label": label_feature
                or datasets.Value("string" if isinstance(labels[0], str) else "int64"),
                **{key: datasets.Value("float64") for key in columns},
            }
        )
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(values, schema=features.arrow_schema), path)
        return path

    return write


def test_load_dataset_reads_images_names_and_weights(tmp_path, make_set):
    distilled = make_set(ipc=60)  # several row groups
    export_set(distilled, tmp_path / "out", "parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out" / FILE), split="train", cache_dir=tmp_path / "c"
    )
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows.features["label"].names == distilled.class_names
    assert rows.features["weight"].dtype == "float32"
    images = torch.from_numpy(np.stack([np.array(image) for image in rows["image"]]))
    assert torch.equal(images.permute(0, 3, 1, 2), distilled.images)
    assert rows["label"][:] == distilled.labels.tolist()
    assert rows["weight"][:] == distilled.weights.tolist()
    assert pq.ParquetFile(tmp_path / "out" / FILE).num_row_groups == 2


def test_load_dataset_reads_either_export_as_a_folder(tmp_path, make_set):
    distilled = make_set()
    for layout in ("parquet", "imagefolder"):
        export_set(distilled, tmp_path / layout, layout)
        found = datasets.load_dataset(str(tmp_path / layout), cache_dir=tmp_path / "c")
        assert list(found) == ["train"]
        assert found["train"]["label"][:] == distilled.labels.tolist()
        first = torch.from_numpy(np.array(found["train"][0]["image"]))
        assert torch.equal(first.permute(2, 0, 1), distilled.images[0])


def test_our_own_dataset_class_reads_the_export(tmp_path, make_set):
    distilled = make_set()
    export_set(distilled, tmp_path / "out", "parquet")
    file = str(tmp_path / "out" / FILE)
    data = HuggingFaceImages(6, train_files=file, test_files=file, dataset_name="x")
    data.setup()
    assert data.classes.names == distilled.class_names
    assert torch.equal(data.train.load(range(6)), distilled.images)


def test_two_classes_of_one_name_keep_apart(tmp_path, make_set):
    distilled = make_set(["crane", "dog", "crane"])
    export_set(distilled, tmp_path / "out", "parquet")
    features = datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "out" / FILE))
    assert features["label"].names == ["crane (n0)", "dog", "crane (n2)"]


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([2, 0, 1], None),
        (["hen", "cat", "dog"], None),
        (["n3", "n1", "n2"], None),
        (["00002", "00000", "00001"], None),
        ([0, 1, 2], datasets.ClassLabel(names=["hen", "cat", "dog"])),  # another order
        ([2, 0, 1], datasets.ClassLabel(names=["0", "1", "2"])),
    ],
)
def test_labels_of_every_kind(file_of, labels, feature):
    found = list_parquet([file_of(labels, feature)], PETS)
    assert found.labels.tolist() == [2, 0, 1]
    assert found.classes is PETS
    assert found.weights is None


def test_classes_of_the_file_itself(file_of):
    named = list_parquet([file_of([1, 0], datasets.ClassLabel(names=["sea_cat", "dog"]))])
    assert (named.classes.names, named.classes.keys) == (["sea cat", "dog"], ["sea_cat", "dog"])
    assert named.labels.tolist() == [1, 0]
    texts = list_parquet([file_of(["b", "a"], name="b.parquet")])
    assert (texts.classes.names, texts.labels.tolist()) == (["a", "b"], [1, 0])
    bare = list_parquet([file_of(list(range(11))[::-1], name="c.parquet")])
    assert bare.labels.tolist() == list(range(11))[::-1]


def test_weights_are_read_unless_told_otherwise(file_of):
    file = file_of([0, 1, 2], weight=[1.0, 2.0, 3.0])
    assert list_parquet([file], PETS).weights.tolist() == [1.0, 2.0, 3.0]
    assert list_parquet([file], PETS, columns=Columns(weight=None)).weights is None
    holes = file_of([0, 1, 2], weight=[1.0, None, 3.0], name="holes.parquet")
    with pytest.raises(UserError, match="'weight' must hold a number in every row"):
        list_parquet([holes], PETS)


def test_columns_may_have_other_names(file_of):
    file = file_of([0, 1, 2], image="img")
    with pytest.raises(
        UserError, match=r"no column 'image'\. Set --image-column to one of: img, label"
    ):
        list_parquet([file], PETS)
    assert len(list_parquet([file], PETS, columns=Columns(image="img")).images) == 3
    with pytest.raises(UserError, match="does not hold encoded images"):
        list_parquet([file], PETS, columns=Columns(image="label"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "3 is no class of a list: its labels run from 0 to 2"),
        ([0, -1], "-1 is no class"),
        (["cat", "cow"], "cow is no class"),
        ([0, None], "row 1 has no label"),
        (["0", "10"], "--numeric"),
    ],
)
def test_labels_that_fit_no_class(file_of, labels, message):
    with pytest.raises(UserError, match=message):
        list_parquet([file_of(labels)], PETS)


def test_images_must_be_in_the_file(tmp_path, file_of):
    path = file_of([0, 1])
    table = pq.read_table(path)
    images = [picture(1), {"bytes": None, "path": "/etc/hostname"}]
    column = pa.array(images, table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), column), path)
    with pytest.raises(UserError, match="row 1: there is no image in the file"):
        list_parquet([path], PETS)


def test_no_parquet_at_all(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("junk")
    with pytest.raises(UserError, match="not a readable parquet file"):
        list_parquet([path], PETS)


def test_files_are_found_as_on_the_hub(tmp_path, file_of):
    first = file_of([0], name="hub/data/train-00000-of-00002.parquet")
    second = file_of([1], name="hub/data/train-00001-of-00002.parquet")
    assert parquet_files(tmp_path / "hub") == [first, second]
    assert parquet_files(first) == [first]
    assert parquet_files(tmp_path) == []
    found = list_parquet(parquet_files(tmp_path / "hub"), PETS)
    assert found.labels.tolist() == [0, 1]
    assert found.place(1) == f"{second}, row 0"
    file_of([0], name="hub/data/test-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"several splits \(test, train\)"):
        parquet_files(tmp_path / "hub")
