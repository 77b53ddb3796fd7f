"""Distilled sets as parquet files that ``datasets.load_dataset`` reads."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data.tables import ParquetSource, label_column_of
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.exchange.classes import ClassList
from ddoq.exchange.imagefolder import encode_png
from ddoq.exchange.listing import Columns, Listing
from ddoq.exchange.matching import classes_of, match_classes
from ddoq.exchange.record import exported_labels

FILE = "data/train-00000-of-00001.parquet"  # the name under which the Hub expects a split
_SPLITS = {"train", "val", "validation", "test"}
_GROUP = 100  # rows: small groups let viewers read a page without the rest


def write_parquet(distilled: DistilledSet, folder: Path) -> None:
    """Write one parquet file: ``image`` (PNG), ``label`` (ClassLabel with names) and ``weight`` (float32).

    Args:
        distilled: What to write.
        folder: An empty folder.

    Raises:
        UserError: If the set holds more than 8-bit images of classes.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=_distinct(distilled)),
            "weight": datasets.Value("float32"),
        }
    )
    schema = features.arrow_schema  # with the features in its metadata, where `datasets` looks
    path = folder / FILE
    labels = exported_labels(distilled)
    path.parent.mkdir()
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(distilled), _GROUP):
            part = slice(start, start + _GROUP)
            images = [
                {"bytes": encode_png(image), "path": f"{start + offset:06d}.png"}
                for offset, image in enumerate(distilled.images[part])
            ]
            columns = {
                "image": images,
                "label": labels[part].tolist(),
                "weight": distilled.weights[part].numpy(),
            }
            writer.write_table(pa.table(columns, schema=schema))


def _distinct(distilled: DistilledSet) -> list[str]:
    """Return names that a ClassLabel takes: ImageNet has two classes called crane."""
    keys = distilled.metadata.get("class_keys") or list(map(str, range(len(distilled.class_names))))
    twice = {name for name, count in Counter(distilled.class_names).items() if count > 1}
    pairs = zip(distilled.class_names, keys, strict=True)
    names = [f"{name} ({key})" if name in twice else name for name, key in pairs]
    counts = Counter(names)  # a third class may be called as two of them are now
    return [f"{name} [{i}]" if counts[name] > 1 else name for i, name in enumerate(names)]


def parquet_files(source: Path) -> list[Path]:
    """List the parquet files of a source.

    Args:
        source: A parquet file, or a folder that holds some, itself or in ``data`` as on the Hub.

    Returns:
        The files in sorted order; none if the source holds none.

    Raises:
        UserError: If they belong to several splits.
    """
    if source.is_file():
        return [source] if source.suffix == ".parquet" else []
    files = sorted(source.glob("*.parquet")) or sorted((source / "data").glob("*.parquet"))
    splits = {file.name.partition("-")[0].removesuffix(".parquet") for file in files} & _SPLITS
    if len(splits) > 1:
        raise UserError(
            f"{source} holds several splits ({', '.join(sorted(splits))}): name the file of the one to import."
        )
    return files


def list_parquet(
    files: list[Path],
    classes: ClassList | None = None,
    *,
    numeric: bool = False,
    columns: Columns | None = None,
) -> Listing:
    """List the rows of parquet files.

    Args:
        files: The files, in order.
        classes: What the labels stand for; the files' own ClassLabel, or their sorted labels, where omitted.
        numeric: Whether texts are labels, whatever their length.
        columns: Names of the columns.

    Returns:
        The rows in their order.

    Raises:
        UserError: If a column is missing or has another type, a row has no image or label, or labels do not fit the
            classes.
    """
    columns = columns or Columns()
    # ParquetSource takes patterns; an existing path is never read as one.
    source = ParquetSource("SOURCE", [str(file) for file in files])
    table = source.open()
    title = str(files[0]) if len(files) == 1 else f"{files[0].parent}"
    if not len(table):
        raise UserError(f"{title} has no rows.")
    labels, known = _labels(table, columns, classes, title, numeric)
    return Listing(
        _images(table, columns.image, source),
        labels,
        _weights(table, columns.weight, title),
        known,
        source.row,
        source.identity(),
    )


def _labels(
    table: Any, columns: Columns, classes: ClassList | None, title: str, numeric: bool
) -> tuple[Tensor, ClassList]:
    for option, name in (("--image-column", columns.image), ("--label-column", columns.label)):
        if name not in table.column_names:
            raise UserError(
                f"{title} has no column {name!r}. Set {option} to one of: {', '.join(table.column_names)}."
            )
    column = label_column_of(table, columns.image, columns.label, title)
    values, names = column.values, column.names
    if names is not None:
        if any(not 0 <= value < len(names) for value in values):
            raise UserError(f"{title}: a label is none of the {len(names)} of its ClassLabel.")
        listed = classes_from_names(names, title)
        if classes is None:
            return torch.tensor(values), listed
        if names == [str(index) for index in range(len(names))]:  # names that say nothing
            return _integers(values, classes, title), classes
        labels = match_classes(names, classes, title, numeric=numeric)
        return torch.tensor([labels[names[value]] for value in values]), classes
    texts = sorted(set(map(str, values)))
    if isinstance(values[0], int):  # stored numbers are labels: nobody has sorted them as text
        known = classes or classes_of(texts, title, numeric=True)
        return _integers(values, known, title), known
    known = classes or classes_of(texts, title, numeric=numeric)
    labels = match_classes(texts, known, title, numeric=numeric)
    return torch.tensor([labels[value] for value in values]), known


def classes_from_names(names: list[str], title: str) -> ClassList:
    """Take the names of a ClassLabel as keys, and with spaces for underscores as names, as the datasets do."""
    return ClassList([name.replace("_", " ") for name in names], list(names), title)


def _integers(values: list[int], classes: ClassList, title: str) -> Tensor:
    count = len(classes.names)
    wrong = next((value for value in values if not 0 <= value < count), None)
    if wrong is not None:
        raise UserError(
            f"{title}: {wrong} is no class of {classes.origin}: its labels run from 0 to {count - 1}."
        )
    return torch.tensor(values)


def _weights(table: Any, column: str | None, title: str) -> Tensor | None:
    if column is None or column not in table.column_names:
        return None
    values = table.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    if not all(isinstance(value, (int, float)) for value in values):
        raise UserError(f"{title}: column {column!r} must hold a number in every row.")
    return torch.tensor(values, dtype=torch.float32)


def _images(table: Any, column: str, source: ParquetSource) -> list[bytes]:
    import datasets

    try:
        encoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        cells = encoded.with_format(None)[:][column]
    except (TypeError, ValueError, NotImplementedError):
        raise UserError(
            f"{source.title}: column {column!r} does not hold encoded images. Set --image-column to one of: "
            f"{', '.join(table.column_names)}."
        ) from None
    for row, cell in enumerate(cells):
        if cell is None or cell["bytes"] is None:  # a path alone would lead out of the file
            raise UserError(f"{source.row(row)}: there is no image in the file itself.")
    return [cell["bytes"] for cell in cells]
