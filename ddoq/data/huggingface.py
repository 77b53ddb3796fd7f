"""Datasets of the Hugging Face hub, and parquet files in its format."""

from typing import Any

import torch
from torch import Tensor

from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.decoding import MAX_ASPECT_RATIO, MAX_PIXELS, ImageLimits, UnreadableImagesError
from ddoq.data.known_registries import load_registry, source_labels
from ddoq.data.names import build_registry
from ddoq.data.splits import ImageSplit, SubsetSplit, maybe_cached
from ddoq.data.tables import HubSource, LabelColumn, ParquetSource, RowSplit, label_column_of
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config


class HuggingFaceImages(ImageDataModule):
    """A labelled image dataset of the Hugging Face hub, or local parquet files of that format.

    Labels keep the order of the dataset's ClassLabel; labels that are plain integers or texts are sorted. Images may
    be of any mode; the shorter side is brought to ``image_size``, then the centre is cut out.

    Args:
        image_size: Side in pixels of the images.
        path: Name on the hub, such as ``uoft-cs/cifar10``; omit it where files are given.
        name: Configuration of a hub dataset that has several.
        revision: Commit, tag or branch of a hub dataset.
        train_files: Parquet files of the training split: a path, a glob pattern or a list of them.
        test_files: The same for the test split.
        dataset_name: What results call the dataset; needed for files, else the last part of ``path``.
        train_split: Name of the training split on the hub.
        test_split: Name of the test split on the hub.
        image_column: Column of the images.
        label_column: Column of the labels.
        registry: Name of a known dataset, such as ``imagenet-1k`` (see :data:`ddoq.data.REGISTRIES`). The ClassLabel is
            checked against it, by WordNet ids or by names, and names come from it; labels that are plain integers
            cannot be checked, and are taken for its numbers. A part of ImageNet-1K is picked out of the whole.
        class_names: Readable names: a list in label order, a mapping from ClassLabel name to readable name, or the
            path of a JSON file with either or of a text file with a name a line. The registry's where omitted, else
            the ClassLabel names.
        prompt: Template of the text prompts.
        only_present_classes: Keep only the classes that have images in both splits, and number them anew in the
            same order, for instance to use one shard of a dataset. Where False, a class without images is an error.
        cache_images: Whether decoded images stay in memory; None keeps a split of under 2 GiB.
        limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        test_limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        batch_size: Images a batch in the loaders.
        num_workers: Worker processes a loader.
        mean: Channel means.
        std: Channel standard deviations.
        max_pixels: Width times height that a stored image may have; a larger one is refused before it is decoded.
        max_aspect_ratio: Longer by shorter side that a stored image may have.
        test_resize: See :class:`~ddoq.data.base.ImageDataModule`.

    Raises:
        UserError: If not exactly one of ``path`` and the two lists of files is given, if files have no name, or if
            there is no such registry.
    """

    missing_classes_hint = "To keep only the classes that occur, set `only_present_classes: true`."

    def __init__(
        self,
        image_size: int,
        path: str | None = None,
        name: str | None = None,
        revision: str | None = None,
        train_files: str | list[str] | None = None,
        test_files: str | list[str] | None = None,
        dataset_name: str | None = None,
        train_split: str = "train",
        test_split: str = "test",
        image_column: str = "image",
        label_column: str = "label",
        registry: str | None = None,
        class_names: str | list[str] | dict[str, str] | None = None,
        prompt: str = "a photo of a {name}",
        only_present_classes: bool = False,
        cache_images: bool | None = None,
        limit_per_class: int | None = None,
        test_limit_per_class: int | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        max_pixels: int = MAX_PIXELS,
        max_aspect_ratio: float = MAX_ASPECT_RATIO,
        test_resize: int | None = None,
    ) -> None:
        super().__init__(
            image_size,
            limit_per_class,
            test_limit_per_class,
            batch_size,
            num_workers,
            mean,
            std,
            test_resize,
        )
        self._sources = _sources(
            path, name, revision, (train_split, test_split), (train_files, test_files)
        )
        if dataset_name is None and path is None:
            raise UserError(
                "Give `dataset_name`: results call the dataset by it, files have no name."
            )
        self.name = dataset_name or str(path).rpartition("/")[2]
        self.columns = (image_column, label_column)
        if registry is not None:
            load_registry(registry)  # an unknown name should not wait for a download
        self.registry = registry
        self.class_names = class_names
        self.prompt = prompt
        self.only_present_classes = only_present_classes
        self.cache_images = cache_images
        self.limits = ImageLimits(max_pixels, max_aspect_ratio)
        self._stored: list[RowSplit] = []

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Open both splits; see :meth:`ImageDataModule.load_splits`."""
        image_column, label_column = self.columns
        tables = [source.open() for source in self._sources]
        columns = [
            label_column_of(table, image_column, label_column, source.title)
            for table, source in zip(tables, self._sources, strict=True)
        ]
        registry, labels, kept = self._number(columns)
        splits: list[ImageSplit] = []
        self._stored = []
        for table, source, split_labels in zip(tables, self._sources, labels, strict=True):
            rows = RowSplit(
                table,
                image_column,
                split_labels,
                self.image_size,
                source.row,
                self.limits,
                source.folders(),
            )
            self._stored.append(rows)
            split: ImageSplit = rows
            if kept is not None:
                split = _keep(split, kept, source.title)
            splits.append(maybe_cached(split, self.image_size, self.cache_images))
        if self.only_present_classes:
            splits, registry = _present_only(splits, registry)
        return splits[0], splits[1], registry

    def _number(
        self, columns: list[LabelColumn]
    ) -> tuple[ClassRegistry, list[Tensor], list[int] | None]:
        """Return classes, labels as the source has them, and the source's label of each class where they differ."""
        titles = [source.title for source in self._sources]
        if self.registry is None:
            keys, labels = _join(columns, titles)
            return build_registry(keys, self.class_names, self.prompt), labels, None
        registry = load_registry(self.registry, self.prompt, self.class_names)
        if all(column.names is None and _are_integers(column.values) for column in columns):
            labels = [torch.tensor(column.values, dtype=torch.long) for column in columns]
            return registry, labels, None
        keys, labels = _join(columns, titles)
        kept = source_labels(self.registry, keys, titles[0])
        return registry, labels, None if kept == list(range(len(keys))) else kept

    def source_fingerprint(self) -> str:
        """Hash the contents of the files, or the revision of the hub dataset, and the columns that are read.

        Files that are hashed are checked, too, see :func:`ddoq.data.decoding.check_encoded`.

        Raises:
            UnreadableImagesError: With all images in files that cannot be decoded.
        """
        identities, faults = [], []
        for source, rows in zip(self._sources, self._stored, strict=True):
            try:
                identities.append(source.identity(rows.faults))
            except UnreadableImagesError as error:
                faults += error.faults
        if faults:
            raise UnreadableImagesError(faults)
        return hash_config([*self.columns, *identities])


def _sources(
    path: str | None,
    name: str | None,
    revision: str | None,
    splits: tuple[str, str],
    files: tuple[str | list[str] | None, str | list[str] | None],
) -> list[HubSource | ParquetSource]:
    if path is not None:
        if files != (None, None):
            raise UserError("Give either `path` or `train_files` and `test_files`, not both.")
        return [HubSource(path, name, revision, split) for split in splits]
    train, test = files
    if train is None or test is None:
        raise UserError("Give `path` (a name on the hub), or both `train_files` and `test_files`.")
    return [ParquetSource("train_files", train), ParquetSource("test_files", test)]


def _join(columns: list[LabelColumn], titles: list[str]) -> tuple[list[str], list[Tensor]]:
    """Bring both splits to one numbering of the classes."""
    train, test = columns
    if train.names is None and test.names is None:
        values: list[Any] = sorted(
            {*train.values, *test.values}, key=lambda v: (isinstance(v, str), v)
        )
        index = {value: i for i, value in enumerate(values)}
        keys = [str(value) for value in values]
        return keys, [torch.tensor([index[v] for v in column.values]) for column in columns]
    if train.names is None or test.names is None:
        with_names, without = titles if test.names is None else titles[::-1]
        raise UserError(
            f"{with_names} has class names (ClassLabel), {without} has bare labels: whether they mean the "
            f"same cannot be known. Store both with the same features."
        )
    if train.names != test.names:
        pairs = enumerate(zip(train.names, test.names, strict=False))
        different = next((f"label {i} is {a!r} and {b!r}" for i, (a, b) in pairs if a != b), "")
        detail = different or f"{len(train.names)} and {len(test.names)} classes"
        raise UserError(
            f"{titles[0]} and {titles[1]} number their classes differently: {detail}. "
            f"Store both with the same ClassLabel."
        )
    return train.names, [torch.tensor(column.values, dtype=torch.long) for column in columns]


def _are_integers(values: list[Any]) -> bool:
    return all(isinstance(value, int) for value in values)


def _keep(split: ImageSplit, kept: list[int], title: str) -> SubsetSplit:
    """Keep the images of some labels, which get the numbers of their places in ``kept``."""
    lowest = int(split.labels.min()) if len(split) else 0
    if lowest < 0:
        raise UserError(f"{title} has the label {lowest}: its images are not labelled.")
    renumbered = torch.full((max(*kept, int(split.labels.max())) + 1,), -1)
    renumbered[kept] = torch.arange(len(kept))
    subset = SubsetSplit(split, torch.nonzero(renumbered[split.labels] >= 0).flatten())
    subset.labels = renumbered[subset.labels]
    return subset


def _present_only(
    splits: list[ImageSplit], registry: ClassRegistry
) -> tuple[list[ImageSplit], ClassRegistry]:
    """Keep the classes that have images in every split, numbered anew in the same order."""
    present = [set(split.labels.unique().tolist()) for split in splits]
    kept = [item for item in registry if all(item.index in labels for labels in present)]
    if not kept:
        raise UserError("The two splits have no class in common.")
    renumbered = torch.full((len(registry) + 1,), -1)  # the last entry answers for the label -1
    renumbered[[item.index for item in kept]] = torch.arange(len(kept))
    subsets: list[ImageSplit] = []
    for split in splits:
        positions = torch.nonzero(renumbered[split.labels] >= 0).flatten()
        subset = SubsetSplit(split, positions)
        subset.labels = renumbered[subset.labels]
        subsets.append(subset)
    return subsets, registry.part([item.index for item in kept])
