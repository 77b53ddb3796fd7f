"""Images in a folder per class."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.decoding import (
    LIMITS,
    MAX_ASPECT_RATIO,
    MAX_PIXELS,
    Encoded,
    ImageLimits,
    UnreadableImagesError,
    decode_all,
)
from ddoq.data.hashing import content_hashes
from ddoq.data.known_registries import check_folders, load_registry
from ddoq.data.names import build_registry
from ddoq.data.splits import ImageSplit, maybe_cached
from ddoq.errors import UserError
from ddoq.escaping import has_surrogate
from ddoq.storage.fingerprints import hash_config, hash_files

_ANNOTATIONS = (
    "val_annotations.txt"  # in the validation folder of Tiny-ImageNet as it is distributed
)
_HASHING_THREADS = 8  # reading waits for the disc more than hashing for a core


class FileSplit(ImageSplit):
    """Image files and their labels.

    Args:
        files: Paths, in order.
        labels: int64 ``(n,)``.
        image_size: Side in pixels of the decoded images.
        limits: How large a file's image may be.
        resize: See :func:`ddoq.data.decoding.fit_square`.
        stretch: Whether images lose their ratio of sides instead of what is outside the centre.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        image_size: int,
        limits: ImageLimits = LIMITS,
        resize: int | None = None,
        stretch: bool = False,
    ) -> None:
        self.files = files
        self.labels = labels
        self.image_size = image_size
        self.limits = limits
        self.resize = resize
        self.stretch = stretch

    def load(self, indices: Sequence[int]) -> Tensor:
        """Decode images; see :meth:`ImageSplit.load`."""
        chosen = [self.files[index] for index in indices]
        return decode_all(
            chosen,
            self.image_size,
            lambda position: str(chosen[position]),
            self.limits,
            self.resize,
            stretch=self.stretch,
        )

    def sources(self, indices: Sequence[int]) -> list[Encoded] | None:
        """Return the files; see :meth:`ImageSplit.sources`."""
        return [
            Encoded(self.files[index], str(self.files[index]), self.limits) for index in indices
        ]

    def at_size(self, size: int, *, stretch: bool = False) -> ImageSplit:
        """Return the same files, decoded at another size; see :meth:`ImageSplit.at_size`."""
        if (size, stretch) == (self.image_size, self.stretch):
            return self
        return FileSplit(self.files, self.labels, size, self.limits, stretch=stretch)

    def centred(self, size: int, resize: int) -> ImageSplit:
        """Return the centres of the same files, decoded at that size; see :meth:`ImageSplit.centred`."""
        return FileSplit(self.files, self.labels, size, self.limits, resize)


def _visible(paths: Sequence[Path]) -> list[Path]:
    return sorted(
        (path for path in paths if not path.name.startswith(".")), key=lambda path: path.name
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMG_EXTENSIONS


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Refuse names that no text file, table or hash could hold.

    Args:
        folder: What holds them.
        names: Of files or folders in it.

    Raises:
        UserError: If some are not UTF-8; it lists them.
    """
    odd = [name for name in names if has_surrogate(name)]
    if odd:
        shown = ", ".join(map(repr, odd[:5])) + (" ..." if len(odd) > 5 else "")
        raise UserError(
            f"{str(folder)!r} has {len(odd)} names that are not UTF-8: {shown}. Rename them."
        )


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
        imagenet = stray[0].name.startswith("ILSVRC2012_val_")
        mend = (
            "sort ImageNet's validation images into a folder per WordNet id, as torchvision.datasets.ImageNet does "
            "when it unpacks the archives."
            if imagenet
            else "move it into one of them."
        )
        raise UserError(f"{stray[0]} lies outside the class folders: {mend}")
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
    files = (path for path in folder.rglob("*") if _is_image(path) and path.is_file())
    visible = [p for p in files if not any(x.startswith(".") for x in p.relative_to(folder).parts)]
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


def list_split(folder: Path) -> dict[str, list[Path]]:
    """List the images of a split by class, in the order of the class folders sorted as text.

    A folder with Tiny-ImageNet's ``val_annotations.txt`` is read as that says; every other has a folder per class.

    Args:
        folder: The split.

    Returns:
        Paths by the name of their class.

    Raises:
        UserError: As :func:`list_classes`, if annotations and images do not belong together, or names are not UTF-8.
    """
    if (folder / _ANNOTATIONS).is_file():
        return _read_annotations(folder)
    members = {name: list_images(folder / name) for name in list_classes(folder)}
    files = (file.relative_to(folder).as_posix() for group in members.values() for file in group)
    check_names(folder, [*members, *files])
    return members


def _read_annotations(folder: Path) -> dict[str, list[Path]]:
    """Read lines of ``val_0.JPEG<tab>n03444034<tab>box``; images lie in ``images``."""
    file = folder / _ANNOTATIONS
    members: dict[str, list[Path]] = {}
    named = set()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}). Unpack the dataset again.") from None
    for number, line in enumerate(lines, 1):
        name, _, rest = line.partition("\t")
        key = rest.partition("\t")[0].strip()
        if not key or name in named:
            fault = f"{name} appears twice" if name in named else "has no image and class"
            raise UserError(f"{file}, line {number}: {fault}. Unpack the dataset again.")
        named.add(name)
        members.setdefault(key, []).append(folder / "images" / name)
    there = {path.name for path in list_images(folder / "images")}
    if named != there:
        odd = min(named ^ there)
        where = "has no line there" if odd in there else "is not in its folder `images`"
        raise UserError(f"{file}: {odd} {where}. Unpack the dataset again.")
    return {key: sorted(members[key]) for key in sorted(members)}


class ImageFolderImages(ImageDataModule):
    """A dataset of ``root/train/<class>/*.jpg`` and ``root/val/<class>/*.jpg``.

    Labels follow the class folders sorted as text, as in torchvision, or the registry where one is named. Images may be
    of any mode; the shorter side is brought to ``image_size``, then the centre is cut out. Tiny-ImageNet is read as it
    is distributed: images in ``train/<class>/images``, and in ``val/images`` with ``val_annotations.txt`` beside.

    Args:
        root: Folder that holds both splits.
        dataset_name: What results call the dataset.
        image_size: Side in pixels of the images.
        train_folder: Folder of the training split inside ``root``.
        test_folder: Folder of the test split inside ``root``.
        registry: Name of a known dataset, such as ``imagenet-1k`` (see :data:`ddoq.data.REGISTRIES`): the folders are
            checked against it, and names come from it. Where it names a part of ImageNet-1K, only its folders are read.
        class_names: Readable names: a list in label order, a mapping from folder to name, or the path of a
            JSON file with either or of a text file with a name a line. The registry's where omitted, else the folder
            names.
        prompt: Template of the text prompts.
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
        UserError: If there is no such registry.
    """

    def __init__(
        self,
        root: str,
        dataset_name: str,
        image_size: int,
        train_folder: str = "train",
        test_folder: str = "val",
        registry: str | None = None,
        class_names: str | list[str] | dict[str, str] | None = None,
        prompt: str = "a photo of a {name}",
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
        self.name = dataset_name
        self.folders = [Path(root).expanduser() / name for name in (train_folder, test_folder)]
        if registry is not None:
            load_registry(registry)  # an unknown name should not wait for files
        self.registry = registry
        self.class_names = class_names
        self.prompt = prompt
        self.cache_images = cache_images
        self.limits = ImageLimits(max_pixels, max_aspect_ratio)
        self._members: list[dict[str, list[Path]]] = []

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """List the files of both splits; see :meth:`ImageDataModule.load_splits`."""
        listings = [list_split(folder) for folder in self.folders]
        registry = self._classes([list(members) for members in listings])
        self._members = [{key: members[key] for key in registry.keys} for members in listings]
        splits = []
        for members in self._members:
            files = [file for group in members.values() for file in group]
            counts = torch.tensor([len(group) for group in members.values()])
            labels = torch.arange(len(counts)).repeat_interleave(counts)
            split = FileSplit(files, labels, self.image_size, self.limits)
            splits.append(maybe_cached(split, self.image_size, self.cache_images))
        return splits[0], splits[1], registry

    def _classes(self, keys: list[list[str]]) -> ClassRegistry:
        """Say which classes are read, from the folders of both splits."""
        if self.registry is not None:
            for folder, names in zip(self.folders, keys, strict=True):
                check_folders(self.registry, names, folder)
            return load_registry(self.registry, self.prompt, self.class_names)
        train, test = keys
        if train != test:
            only = sorted(set(train) ^ set(test))
            raise UserError(
                f"{self.folders[0]} and {self.folders[1]} must have the same class folders; only one "
                f"of them has {', '.join(only[:5])}{' ...' if len(only) > 5 else ''}."
            )
        return build_registry(train, self.class_names, self.prompt)

    def source_fingerprint(self) -> str:
        """Hash the relative path and the contents of every image of both splits.

        Each byte is read once, and again only where a class changed: seconds for Tiny-ImageNet, minutes for the 140 GB
        of ImageNet. Dates and the place of ``root`` do not count. See :func:`ddoq.data.hashing.content_hashes`. What is
        hashed is checked, too, see :func:`ddoq.data.decoding.check_encoded`.

        Raises:
            UnreadableImagesError: With all images that cannot be decoded.
        """
        rows, faults = [], []
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:

            def hash_group(files: Sequence[Path]) -> list[str]:
                pairs = list(pool.map(self._hash_and_check, files))
                if wrong := [fault for _, fault in pairs if fault]:
                    raise UnreadableImagesError(wrong)
                return [value for value, _ in pairs]

            for folder, members in zip(self.folders, self._members, strict=True):
                try:
                    hashes = content_hashes(str(folder.resolve()), members, hash_group)
                except UnreadableImagesError as error:
                    faults += error.faults
                    continue
                rows.append(
                    [
                        (file.relative_to(folder).as_posix(), value)
                        for key, files in members.items()
                        for file, value in zip(files, hashes[key], strict=True)
                    ]
                )
        if faults:
            raise UnreadableImagesError(faults)
        return hash_config(rows)

    def _hash_and_check(self, file: Path) -> tuple[str, str]:
        return hash_files([file]), Encoded(file, str(file), self.limits).fault()
