import json
import re

import pytest
import yaml
from huggingface_hub import DatasetCard

from ddoq.exchange import LAYOUTS, ScoreRow, dataset_card


@pytest.mark.parametrize("layout", LAYOUTS)
def test_front_matter_is_what_the_hub_reads(make_set, layout):
    text = dataset_card(make_set(), layout)
    front = DatasetCard(text, ignore_metadata_errors=False).data.to_dict()
    assert front["task_categories"] == ["image-classification"]
    assert front["size_categories"] == ["n<1K"]
    assert "ddoq" in front["tags"]
    (files,) = front["configs"][0]["data_files"]
    assert files["path"] == {"parquet": "data/train-*.parquet", "imagefolder": "*/*.png"}[layout]


def test_record_is_told_whole(make_set):
    metadata = {
        "method": "ddoq",
        "seed": 3,
        "settings": {"ipc": 2, "weight_power": 0.5},
        "data": {"name": "pets", "source": "abc"},
        "provenance": {"git": {"commit": "f" * 40, "modified": False}},
    }
    distilled = make_set(metadata=metadata)
    text = dataset_card(distilled, "parquet")
    assert "# ddoq of pets, 2 images per class" in text
    assert distilled.fingerprint in text
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert blocks == [
        {key: metadata[key] for key in ("method", "seed", "settings", "data")},
        metadata["provenance"],
    ]
    assert "f" * 40 in text


def test_scores_stand_in_a_table(make_set):
    rows = [ScoreRow("pets", "unified[a|b]", "online", "resnet18", "51.0 ± 1.4 (n=2)")]
    text = dataset_card(make_set(), "parquet", rows)
    cells = re.split(r"(?<!\\)\|", next(line for line in text.splitlines() if "resnet18" in line))
    assert [cell.strip() for cell in cells[1:-1]] == [
        "pets",
        "unified[a\\|b]",
        "online",
        "resnet18",
        "51.0 ± 1.4 (n=2)",
    ]
    assert "No result" not in text
    assert "No result" in dataset_card(make_set(), "parquet")


def test_a_set_of_unknown_origin_still_gets_a_card(make_set):
    text = dataset_card(make_set(metadata={}), "imagefolder")
    assert yaml.safe_load(text.split("---")[1])["pretty_name"] == "imported, 2 images per class"
    assert "commit" not in text


def test_names_stay_text(make_set):
    evil = "<script>alert(1)</script>|[x](http://x)\n# head"
    metadata = {"method": evil, "class_keys": [evil, "b", "c"], "data": {"name": evil}}
    text = dataset_card(make_set([evil, "dog", "hen"], metadata=metadata), "parquet", [])
    outside = re.sub(r"```json.*?```", "", text.split("---", 2)[2], flags=re.DOTALL)
    assert "<script" not in outside
    assert "](http" not in outside
    assert [line for line in outside.splitlines() if line.startswith("# head")] == []
