"""The dataset card: what a set is, how it was made, how to read it, and what students reached with it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from ddoq.distillation.distilled_set import DistilledSet
from ddoq.escaping import markdown, markdown_table
from ddoq.exchange.record import exported_labels

_DATA_FILES = {"parquet": "data/train-*.parquet", "imagefolder": "*/*.png"}
# Classes of size that the Hub knows: the first bound that exceeds the number of rows counts.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
_INTRODUCTION = """A distilled dataset: a few images per class on which networks are trained in place of the whole dataset.
Recorded by DDOQ-Bench."""
_WEIGHTS = """Weights have mean 1 within a class; multiply the loss of each image with its weight before taking the mean.
`ddoq-bench import FOLDER --output SET` gives the distilled set again, bit by bit."""
_READING = {
    "parquet": """```python
from datasets import load_dataset

rows = load_dataset("parquet", data_files="data/*.parquet", split="train")
rows.features["label"].names  # class names in label order
rows[0]["image"], rows[0]["label"], rows[0]["weight"]
```""",
    "imagefolder": """```python
from torchvision.datasets import ImageFolder

images = ImageFolder(".")  # folders sorted as text are in label order
```

`labels.csv` has the label, key and name of the class, and the weight of every file.""",
}


@dataclass(frozen=True)
class ScoreRow:
    """What a student reached.

    Attributes:
        dataset: On whose test set.
        recipe: Label of the recipe.
        labels: Where labels came from, e.g. ``online``.
        student: Label of the student.
        top1: Top-1 accuracy after the last epoch in %, with spread and number of seeds, e.g. ``51.0 ± 1.4 (n=2)``.
    """

    dataset: str
    recipe: str
    labels: str
    student: str
    top1: str


def dataset_card(distilled: DistilledSet, layout: str, scores: Sequence[ScoreRow] = ()) -> str:
    """Write the card as Markdown with the YAML front matter that the Hugging Face Hub reads.

    Args:
        distilled: The set.
        layout: ``imagefolder`` or ``parquet``.
        scores: What students reached.

    Returns:
        The text of a README.md.

    Example:
        >>> images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> tiny = DistilledSet(images, torch.tensor([0, 1]), torch.ones(2), ["cat", "dog"])
        >>> dataset_card(tiny, "parquet").splitlines()[0]
        '---'
    """
    record = distilled.metadata
    title = _title(distilled)
    front = yaml.safe_dump(_front(distilled, layout, title), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---",
        markdown(f"# {title}"),
        _INTRODUCTION,
        markdown_table(["", ""], _facts(distilled)),
        "## Reading it",
        _READING[layout],
        _WEIGHTS,
        "## Scores",
        _scores(scores),
        "## Classes",
        _classes(distilled),
        "## How it was made",
        _json({k: v for k, v in record.items() if k not in ("class_keys", "provenance")}),
    ]
    if record.get("provenance"):
        parts += ["With:", _json(record["provenance"])]
    return "\n\n".join(parts) + "\n"


def _title(distilled: DistilledSet) -> str:
    record = distilled.metadata
    dataset = _data(record).get("name")
    of = f" of {dataset}" if dataset else ""
    return f"{record.get('method', 'imported')}{of}, {distilled.ipc} images per class"


def _data(record: dict[str, Any]) -> dict[str, Any]:
    data = record.get("data")
    return data if isinstance(data, dict) else {}


def _front(distilled: DistilledSet, layout: str, title: str) -> dict[str, Any]:
    n = len(distilled)
    files = [{"split": "train", "path": _DATA_FILES[layout]}]
    config: dict[str, Any] = {"config_name": "default", "data_files": files}
    if layout == "imagefolder":
        config["drop_labels"] = False
    tags = ["dataset-distillation", "ddoq-bench", str(distilled.metadata.get("method", "imported"))]
    return {
        "pretty_name": title,
        "task_categories": ["image-classification"],
        "tags": tags,
        "size_categories": [next((name for bound, name in _SIZES if n < bound), "n>1M")],
        "configs": [config],
    }


def _facts(distilled: DistilledSet) -> list[list[Any]]:
    record = distilled.metadata
    data, imported = _data(record), record.get("imported") or {}
    git = (record.get("provenance") or {}).get("git") or {}
    height, width = distilled.images.shape[-2:]
    low, high = float(distilled.weights.min()), float(distilled.weights.max())
    decoder, targets = distilled.form.decoder.describe(), distilled.targets
    transform = distilled.form.transform
    commit = f"{git['commit']}{' (modified)' if git.get('modified') else ''}" if git else None
    facts: list[list[Any]] = [
        ["method", record.get("method")],
        ["dataset", data.get("name")],
        ["fingerprint of the dataset", data.get("source")],
        ["images", f"{len(distilled)} of {width}x{height} pixels"],
        ["images per class", _per_class(distilled)],
        ["classes", len(distilled.class_names)],
        ["decoder", None if decoder == {"name": "pixels"} else _pairs(decoder)],
        ["targets", None if targets is None else f"{targets.kind} of length {targets.width}"],
        [
            "space of networks",
            None
            if transform is None
            else "normalised"
            if transform.zca is None
            else "whitened (ZCA)",
        ],
        ["weights", "all 1" if low == high == 1 else f"{low:.3g} to {high:.3g}"],
        ["seed", record.get("seed")],
        ["codec of the source", imported.get("codec")],
        ["codec of the images", record.get("codec")],
        ["fingerprint of the set", distilled.fingerprint],
        ["commit of DDOQ-Bench", commit],
    ]
    return [fact for fact in facts if fact[1] is not None]


def _pairs(decoder: dict[str, Any]) -> str:
    values = [f"{key} {value}" for key, value in decoder.items() if key != "name"]
    return ", ".join([decoder["name"], *values])


def _per_class(distilled: DistilledSet) -> str:
    counts = torch.bincount(exported_labels(distilled), minlength=len(distilled.class_names))
    low, high = int(counts.min()), int(counts.max())
    return str(high) if low == high else f"{low} to {high}"


def _scores(scores: Sequence[ScoreRow]) -> str:
    if not scores:
        return "No result of a student that learned from this set was given."
    rows = [[s.dataset, s.recipe, s.labels, s.student, s.top1] for s in scores]
    return (
        "Top-1 accuracy on the real test set after the last epoch, in %: mean ± sample standard deviation over n seeds "
        "of the student.\n\n"
        + markdown_table(["dataset", "recipe", "labels", "student", "top-1"], rows)
    )


def _classes(distilled: DistilledSet) -> str:
    names = distilled.class_names
    keys = distilled.metadata.get("class_keys") or [""] * len(names)
    rows = [[i, key, name] for i, (key, name) in enumerate(zip(keys, names, strict=True))]
    table = markdown_table(["label", "key", "name"], rows)
    return f"<details><summary>{len(names)} classes</summary>\n\n{table}\n\n</details>"


def _json(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return f"```json\n{text}\n```"
