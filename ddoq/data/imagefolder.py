"""Images in a folder per class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule, ImageSplit
from ddoq.data.cache import maybe_cached
from ddoq.data.decoding import decode_all
from ddoq.data.names import build_registry
from ddoq.data.registry import ClassRegistry
from ddoq.errors import UserError
from ddoq.fingerprints import hash_config, hash_files

_HASHING_THREADS = 8  # reading waits for the disc more than hashing for a core


class FileSplit(ImageSplit):
    """Image files and their labels.

    Args:
        files: Paths, in order.
        labels: int64 ``(n,)``.
        image_size: Side in pixels of the decoded images.
    """

    def __init__(self, files: Sequence[Path], labels: Tensor, image_size: int) -> None:
        self.files = files
        self.labels = labels
        self.image_size = image_size

    def load(self, indices: Sequence[int]) -> Tensor:
        """Decode images; see :meth:`ImageSplit.load`."""
        chosen = [self.files[index] for index in indices]
        return decode_all(chosen, self.image_size, lambda position: str(chosen[position]))


def _visible(paths: Sequence[Path]) -> list[Path]:
    return sorted(
        (path for path in paths if not path.name.startswith(".")), key=lambda path: path.name
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMG_EXTENSIONS


def list_classes(folder: Path) -> list[str]:
    """List the class folders of a split, sorted as text.

    Args:
        folder: The split.

    Returns:
        Names of its folders, hidden ones aside.

    Raises:
        UserError: If the folder is missing, holds no folder, holds images outside the class folders, or if
            its folders are numbers whose order as text differs from their order as numbers.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is not a folder.")
    entries = _visible(list(folder.iterdir()))
    stray = [path for path in entries if path.is_file() and _is_image(path)]
    if stray:
        raise UserError(f"{stray[0]} lies outside the class folders: move it into one of them.")
    names = [path.name for path in entries if path.is_dir()]
    if not names:
        raise UserError(f"{folder} has no class folders.")
    if all(name.isdecimal() for name in names) and names != sorted(names, key=int):
        width = max(map(len, names))
        raise UserError(
            f"{folder}: the class folders are numbers of different lengths. Sorted as text they come in "
            f"the order {', '.join(names[:3])} ..., so that label and folder number would differ. Pad the "
            f"names with zeros: {names[0].zfill(width)}, {names[1].zfill(width)} ..."
        )
    return names


def list_images(folder: Path) -> list[Path]:
    """List the images of a class: files with an image's extension, at any depth, in sorted order.

    Args:
        folder: The class.

    Returns:
        Paths, without hidden files and files of other kinds.
    """
    found = (path for path in folder.rglob("*") if _is_image(path) and path.is_file())
    visible = [p for p in found if not any(x.startswith(".") for x in p.relative_to(folder).parts)]
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


class ImageFolderImages(ImageDataModule):
    """A dataset of ``root/train/<class>/*.jpg`` and ``root/val/<class>/*.jpg``.

    Labels follow the class folders sorted as text, as in torchvision. Images may be of any mode; the shorter
    side is brought to ``image_size``, then the centre is cut out.

    Args:
        root: Folder that holds both splits.
        dataset_name: What results call the dataset.
        image_size: Side in pixels of the images.
        train_folder: Folder of the training split inside ``root``.
        test_folder: Folder of the test split inside ``root``.
        class_names: Readable names: a list in label order, a mapping from folder to name, or the path of a
            JSON file with either or of a text file with a name a line. The folder names where omitted.
        prompt: Template of the text prompts.
        cache_images: Whether decoded images stay in memory; None keeps a split of under 2 GiB.
        limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        test_limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        batch_size: Images a batch in the loaders.
        num_workers: Worker processes a loader.
        mean: Channel means.
        std: Channel standard deviations.
    """

    def __init__(
        self,
        root: str,
        dataset_name: str,
        image_size: int,
        train_folder: str = "train",
        test_folder: str = "val",
        class_names: str | list[str] | dict[str, str] | None = None,
        prompt: str = "a photo of a {name}",
        cache_images: bool | None = None,
        limit_per_class: int | None = None,
        test_limit_per_class: int | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(
            image_size, limit_per_class, test_limit_per_class, batch_size, num_workers, mean, std
        )
        self.name = dataset_name
        self.folders = [Path(root).expanduser() / name for name in (train_folder, test_folder)]
        self.class_names = class_names
        self.prompt = prompt
        self.cache_images = cache_images
        self._files: list[list[Path]] = []

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """List the files of both splits; see :meth:`ImageDataModule.load_splits`."""
        train_keys, test_keys = (list_classes(folder) for folder in self.folders)
        if train_keys != test_keys:
            only = sorted(set(train_keys) ^ set(test_keys))
            raise UserError(
                f"{self.folders[0]} and {self.folders[1]} must have the same class folders; only one "
                f"of them has {', '.join(only[:5])}{' ...' if len(only) > 5 else ''}."
            )
        registry = build_registry(train_keys, self.class_names, self.prompt)
        self._files = []
        splits = []
        for folder in self.folders:
            members = [list_images(folder / key) for key in train_keys]
            files = [file for group in members for file in group]
            counts = torch.tensor([len(group) for group in members])
            labels = torch.arange(len(train_keys)).repeat_interleave(counts)
            self._files.append(files)
            split = FileSplit(files, labels, self.image_size)
            splits.append(maybe_cached(split, self.image_size, self.cache_images))
        return splits[0], splits[1], registry

    def source_fingerprint(self) -> str:
        """Hash the relative path and the contents of every image of both splits.

        Each byte is read once a run: seconds for Tiny-ImageNet, minutes for the 140 GB of ImageNet. Dates and
        the place of ``root`` do not count.
        """
        rows = []
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:
            for folder, files in zip(self.folders, self._files, strict=True):
                hashes = pool.map(lambda file: hash_files([file]), files)
                names = [file.relative_to(folder).as_posix() for file in files]
                rows.append(list(zip(names, hashes, strict=True)))
        return hash_config(rows)
