"""Tables of images and labels: where they come from, and one split of rows."""

import bisect
import copy
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data.decoding import LIMITS, Encoded, ImageLimits, UnreadableImagesError, decode_all
from ddoq.data.hashing import content_hashes
from ddoq.data.splits import ImageSplit
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_files

_CHECKED_AT_ONCE = 256  # rows, whose bytes are in memory together
_HUB_MEND = "Check the name and the network, or download the parquet files and pass `train_files` and `test_files`."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


class ParquetSource:
    """One split in local parquet files.

    Args:
        option: The option that named the files, for errors.
        patterns: A path, a glob pattern or a list of them; each pattern's files are taken in sorted order.
    """

    def __init__(self, option: str, patterns: str | list[str]) -> None:
        self.option = option
        self.patterns = [patterns] if isinstance(patterns, str) else patterns
        self.title = f"{option} ({', '.join(self.patterns)})"
        self.files: list[Path] = []
        self._starts: list[int] = []  # rows before each file

    def open(self) -> Any:
        """Return the rows as a ``datasets.Dataset``.

        Raises:
            UserError: If no file matches, one cannot be read, or files differ in their columns.
        """
        import datasets
        import pyarrow.parquet as pq

        self.files = self._find()
        counts, schemas = [], []
        for file in self.files:
            if not file.stat().st_size:
                raise UserError(f"{file} is empty (0 bytes), no parquet file. Fetch it again.")
            try:
                with pq.ParquetFile(file) as parquet:
                    counts.append(parquet.metadata.num_rows)
                    schemas.append(datasets.Features.from_arrow_schema(parquet.schema_arrow))
            except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
                raise UserError(
                    f"{file} is not a readable parquet file ({_first_line(error)}). Fetch it again."
                ) from None
            # `datasets` would read every file with the class names of the first, without a word.
            if schemas[-1] != schemas[0]:
                raise UserError(f"{file} has other columns or class names than {self.files[0]}.")
        if not sum(counts):
            raise UserError(f"{self.title} has no rows.")
        self._starts = list(accumulate(counts, initial=0))[:-1]
        paths = [
            glob.escape(str(file)) for file in self.files
        ]  # `datasets` takes them for patterns
        try:
            rows = datasets.load_dataset("parquet", data_files={"rows": paths}, split="rows")
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise UserError(f"{self.title} cannot be loaded: {_first_line(error)}.") from None
        if len(rows) != sum(counts):
            raise UserError(
                f"{self.title}: {sum(counts)} rows are stored, but {len(rows)} were read."
            )
        return rows

    def identity(self, check: Callable[[], list[str]] = list) -> str:
        """Hash the contents of the files; needs :meth:`open`. What was hashed before is not read again.

        Args:
            check: Called where the files are read: lists what is wrong with their images.

        Raises:
            UnreadableImagesError: If anything is.
        """

        def hash_group(files: Sequence[Path]) -> list[str]:
            if faults := check():
                raise UnreadableImagesError(faults)
            return [hash_files(files)]

        place = "\n".join(str(file.resolve()) for file in self.files)
        return content_hashes(place, {"files": self.files}, hash_group)["files"][0]

    def folders(self) -> list[Path]:
        """Say where files may lie that rows name in place of an image: nowhere."""
        return []

    def row(self, index: int) -> str:
        """Name the file and the row in it that a row of the split comes from."""
        file = bisect.bisect_right(self._starts, index) - 1
        return f"{self.files[file]}, row {index - self._starts[file]}"

    def _find(self) -> list[Path]:
        paths: list[Path] = []
        for pattern in self.patterns:
            path = Path(pattern).expanduser()
            matches = (
                [path]
                if path.is_file()
                else map(Path, sorted(glob.glob(str(path), recursive=True)))
            )
            files = [match for match in matches if match.is_file()]
            if not files:
                raise UserError(f"{self.option}: no file matches {pattern}.")
            paths += files
        return paths


class HubSource:
    """One split of a dataset on the Hugging Face hub.

    Args:
        path: Name on the hub.
        name: Configuration, where there are several.
        revision: Commit, tag or branch.
        split: Name of the split.
    """

    def __init__(self, path: str, name: str | None, revision: str | None, split: str) -> None:
        self.path = path
        self.name = name
        self.revision = revision
        self.split = split
        self.title = f"split {split!r} of {path}"
        self._identity = ""

    def open(self) -> Any:
        """Return the rows as a ``datasets.Dataset``, from the local cache or the hub.

        Raises:
            UserError: If the dataset, its configuration or its split cannot be had.
        """
        import datasets

        if Path(self.path).is_dir():
            raise UserError(
                f"path: {self.path} is a local folder. Give its parquet files as `train_files` and "
                f"`test_files`, or use ImageFolderImages for a folder per class."
            )
        try:
            builder = datasets.load_dataset_builder(self.path, self.name, revision=self.revision)
            builder.download_and_prepare()
        except ConnectionError as error:
            raise UserError(
                f"{self.path}: no network, or no such dataset on the hub, and it is not in the local "
                f"cache ({_first_line(error)}). {_HUB_MEND}"
            ) from None
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.path} cannot be loaded: {_first_line(error)}. {_HUB_MEND}"
            ) from None
        try:
            rows = builder.as_dataset(split=self.split)
        except ValueError as error:
            raise UserError(f"{self.path}: {_first_line(error)}.") from None
        self._identity = f"{self.path}|{self.name}|{builder.hash}|{self.split}|{len(rows)}"
        return rows

    def identity(self, check: Callable[[], list[str]] = list) -> str:
        """Name the dataset, its revision, the split and the number of rows; needs :meth:`open`.

        Args:
            check: Not called: no image is read for it.
        """
        return self._identity

    def folders(self) -> list[Path]:
        """Say where files may lie that rows name in place of an image: where the hub's files are kept."""
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        return [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]

    def row(self, index: int) -> str:
        """Name a row."""
        return f"{self.title}, row {index}"


@dataclass(frozen=True)
class LabelColumn:
    """The labels of a split.

    Attributes:
        values: One integer or text a row.
        names: Names of a ClassLabel, in label order; None where the labels are bare.
    """

    values: list[Any]
    names: list[str] | None


def label_column_of(table: Any, image_column: str, label_column: str, title: str) -> LabelColumn:
    """Read the labels of a table, and check that it has both columns.

    Args:
        table: A ``datasets.Dataset``.
        image_column: Column of the images.
        label_column: Column of the labels.
        title: What to call the table in errors.

    Returns:
        The labels.

    Raises:
        UserError: If a column is missing, labels are empty, or they are neither integers nor texts.
    """
    import datasets

    for option, column in (("image_column", image_column), ("label_column", label_column)):
        if column not in table.column_names:
            raise UserError(
                f"{title} has no column {column!r}. Set `{option}` to one of: {', '.join(table.column_names)}."
            )
    column = table.select_columns([label_column]).with_format("arrow")[:][label_column]
    if column.null_count:
        first = column.is_null().to_pylist().index(True)
        raise UserError(f"{title}: row {first} has no label in column {label_column!r}.")
    values = column.to_pylist()
    feature = table.features[label_column]
    if isinstance(feature, datasets.ClassLabel):
        return LabelColumn(values, list(feature.names))
    if values and not isinstance(values[0], (int, str)):
        raise UserError(
            f"{title}: column {label_column!r} holds {type(values[0]).__name__} values; a label must be an "
            f"integer or a text."
        )
    return LabelColumn(values, None)


class RowSplit(ImageSplit):
    """Rows of a table as a split.

    Args:
        table: A ``datasets.Dataset``.
        image_column: Column of the images.
        labels: int64 ``(n,)``.
        image_size: Side in pixels of the decoded images.
        place: Says where a row comes from, for errors.
        limits: How large a stored image may be.
        folders: Where files may lie that rows name in place of an image; none may where omitted. A table made elsewhere
            could name any file, and the hash of the table would not cover it.

    Raises:
        UserError: If the column does not hold encoded images.
    """

    def __init__(
        self,
        table: Any,
        image_column: str,
        labels: Tensor,
        image_size: int,
        place: Callable[[int], str],
        limits: ImageLimits = LIMITS,
        folders: Sequence[Path] = (),
    ) -> None:
        import datasets

        self.labels = labels
        self.image_size = image_size
        self.image_column = image_column
        self.place = place
        self.limits = limits
        self.resize: int | None = None
        self.stretch = False
        self.folders = [folder.resolve() for folder in folders]
        try:
            encoded = table.select_columns([image_column]).cast_column(
                image_column, datasets.Image(decode=False)
            )
        except (TypeError, ValueError, NotImplementedError):
            kind = type(table.features[image_column]).__name__
            raise UserError(
                f"Column {image_column!r} does not hold encoded images ({kind}). Set `image_column` to one of: "
                f"{', '.join(table.column_names)}."
            ) from None
        self.rows = encoded.with_format(None)

    def load(self, indices: Sequence[int]) -> Tensor:
        """Decode images; see :meth:`ImageSplit.load`."""
        stored = self.sources(indices)
        return decode_all(
            [item.given() for item in stored],
            self.image_size,
            lambda position: stored[position].place,
            self.limits,
            self.resize,
            stretch=self.stretch,
        )

    def sources(self, indices: Sequence[int]) -> list[Encoded]:
        """Return the cells of the column of images; see :meth:`ImageSplit.sources`."""
        chosen = [int(index) for index in indices]
        cells = self.rows[chosen][self.image_column] if chosen else []
        return [self._encoded(cell, row) for cell, row in zip(cells, chosen, strict=True)]

    def faults(self) -> list[str]:
        """Check all images without decoding them; return what is wrong with any."""
        blocks = torch.arange(len(self)).split(_CHECKED_AT_ONCE)
        checked = (item.fault() for block in blocks for item in self.sources(block.tolist()))
        return [fault for fault in checked if fault]

    def at_size(self, size: int, *, stretch: bool = False) -> ImageSplit:
        """Return the same rows, decoded at another size; see :meth:`ImageSplit.at_size`."""
        resized = copy.copy(self)
        resized.image_size, resized.resize, resized.stretch = size, None, stretch
        return self if (size, stretch) == (self.image_size, self.stretch) else resized

    def centred(self, size: int, resize: int) -> ImageSplit:
        """Return the centres of the same rows, decoded at that size; see :meth:`ImageSplit.centred`."""
        centred = copy.copy(self)
        centred.image_size, centred.resize, centred.stretch = size, resize, False
        return centred

    def _encoded(self, cell: dict[str, Any] | None, row: int) -> Encoded:
        place = self.place(row)
        if cell is None or cell["bytes"] is not None or cell["path"] is None:
            return Encoded(None if cell is None else cell["bytes"], place, self.limits)
        path = Path(cell["path"])
        allowed = any(path.resolve().is_relative_to(folder) for folder in self.folders)
        refusal = f"it is the file {str(path)!r} and not in the table itself; store it there"
        return Encoded(path, place, self.limits, "" if allowed else refusal)
