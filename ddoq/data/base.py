"""What every dataset offers: two splits of labelled uint8 images, a class registry and a fingerprint."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddoq.bounds import check_normalisation
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.decoding import MAX_IMAGE_SIZE, Encoded, check_image_size
from ddoq.data.sampler import ExactDistributedSampler
from ddoq.errors import UserError
from ddoq.smoke import Tiny, accepted, lower
from ddoq.storage.fingerprints import hash_config, hash_tensors
from ddoq.storage.keys import seen_key

# Mean and standard deviation of ImageNet in RGB, as torchvision's reference training code states them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_TINY_SIDE = 16  # pixels; autoencoders and ConvNets halve it four times

_HASHED_AT_ONCE = 256  # images


class ImageSplit(Dataset[tuple[Tensor, int]], ABC):
    """One split of a dataset: images by index, and all labels at once.

    Attributes:
        labels: int64 tensor ``(n,)``.
    """

    labels: Tensor

    @abstractmethod
    def load(self, indices: Sequence[int]) -> Tensor:
        """Decode images.

        Args:
            indices: Positions in the split.

        Returns:
            uint8 tensor ``(len(indices), 3, h, w)``.

        Raises:
            UserError: If an image cannot be decoded; it names the file or the row.
        """

    def at_size(self, size: int, *, stretch: bool = False) -> "ImageSplit":
        """Return the same images, decoded from their source at another size where there is a larger source.

        An encoder that works at 512 pixels sees more in a photograph than in its copy at 224.

        Args:
            size: Side in pixels that is wanted.
            stretch: Bring both sides to it and cut nothing off; otherwise the shorter one, and the centre is cut out.

        Returns:
            A split of the same order and labels. Images that exist at one size only keep it: whoever asks resizes.
        """
        return self

    def sources(self, indices: Sequence[int]) -> list[Encoded] | None:
        """Return images as they are stored, not yet decoded.

        Args:
            indices: Positions in the split.

        Returns:
            One for each index; None where the split holds tensors.
        """
        return None

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image, uint8 ``(3, h, w)``, and its label."""
        return self.load([index])[0], int(self.labels[index])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Return a batch of samples; PyTorch's loaders ask for whole batches where they can."""
        labels = self.labels[torch.as_tensor(indices, dtype=torch.long)]
        return list(zip(self.load(indices), labels.tolist(), strict=True))

    def of_class(self, label: int) -> Tensor:
        """Return the positions of all images of a class, int64 ``(m,)``, ascending."""
        return torch.nonzero(self.labels == label).flatten()


class TensorSplit(ImageSplit):
    """A split held in memory.

    Args:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def load(self, indices: Sequence[int]) -> Tensor:
        """Return copies of images; see :meth:`ImageSplit.load`."""
        return self.images[torch.as_tensor(indices, dtype=torch.long)]


class SubsetSplit(ImageSplit):
    """Some positions of another split, in the order given.

    Args:
        source: The split to choose from.
        positions: Which of its images to keep.
    """

    def __init__(self, source: ImageSplit, positions: Tensor) -> None:
        self.source = source
        self.positions = positions
        self.labels = source.labels[positions]

    def load(self, indices: Sequence[int]) -> Tensor:
        """Decode images; see :meth:`ImageSplit.load`."""
        return self.source.load(self.positions[torch.as_tensor(indices, dtype=torch.long)].tolist())

    def sources(self, indices: Sequence[int]) -> list[Encoded] | None:
        """Return images as they are stored; see :meth:`ImageSplit.sources`."""
        positions = self.positions[torch.as_tensor(indices, dtype=torch.long)]
        return self.source.sources(positions.tolist())

    def at_size(self, size: int, *, stretch: bool = False) -> ImageSplit:
        """Return the same images at another size; see :meth:`ImageSplit.at_size`."""
        source = self.source.at_size(size, stretch=stretch)
        if source is self.source:
            return self
        resized = SubsetSplit(source, self.positions)
        resized.labels = self.labels
        return resized


def hash_split(split: ImageSplit, known: Mapping[int, str]) -> str:
    """Hash what a split holds: its positions in a split that is known, or else its images.

    Args:
        split: Any split.
        known: Hashes of splits that need not be decoded for it, by their ``id``.

    Returns:
        16 hexadecimal digits.
    """
    if id(split) in known:
        return known[id(split)]
    if isinstance(split, SubsetSplit):
        parts = {"positions": split.positions, "labels": split.labels}
        return hash_config({"source": hash_split(split.source, known), **_hashed(parts)})
    blocks = torch.arange(len(split)).split(_HASHED_AT_ONCE)
    images = [_hashed({"images": split.load(block.tolist())}) for block in blocks]
    return hash_config({**_hashed({"labels": split.labels}), "images": images})


def _hashed(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: hash_tensors({name: tensor}) for name, tensor in tensors.items()}


def limit_classes(split: ImageSplit, limit: int | None, num_classes: int) -> ImageSplit:
    """Keep the first ``limit`` images of every class (all where None), in the split's own order.

    Raises:
        UserError: If the limit is below 1.
    """
    if limit is None:
        return split
    if limit < 1:
        raise UserError(f"A limit per class must be at least 1, not {limit}.")
    kept = [split.of_class(label)[:limit] for label in range(num_classes)]
    return SubsetSplit(split, torch.cat(kept).sort().values)


class ImageDataModule(Tiny, L.LightningDataModule, ABC):
    """A labelled image dataset with a training and a test split.

    A subclass sets ``name`` and implements :meth:`load_splits` and :meth:`source_fingerprint`; limits,
    loaders and the record for the results are the same for all.

    Args:
        image_size: Side in pixels of the square images that splits return.
        limit_per_class: Training images kept per class, for quick runs; None keeps all. Recorded in results.
        test_limit_per_class: The same for the test split.
        batch_size: Images a batch in the loaders.
        num_workers: Worker processes a loader; 0 loads in the main process.
        mean: Channel means that networks subtract (pixels in [0, 1]).
        std: Channel standard deviations that networks divide by.

    Raises:
        UserError: If the size is no whole number from 1 to ``max_image_size``, a batch size below 1, a number of workers
            below 0, or a deviation not positive.
    """

    name: str
    max_image_size = MAX_IMAGE_SIZE  # lower where all images are held in memory
    stand_in = "ddoq.data.SyntheticImages"
    missing_classes_hint = ""  # what a subclass offers when a split lacks classes; ends the error

    def __init__(
        self,
        image_size: int,
        limit_per_class: int | None = None,
        test_limit_per_class: int | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        check_image_size("image_size", image_size, self.max_image_size)
        floors = {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0)}
        for key, (value, floor) in floors.items():
            if value < floor:
                raise UserError(f"{key} must be at least {floor}, not {value}.")
        check_normalisation(mean, std)
        self.image_size = image_size
        self.limit_per_class = limit_per_class
        self.test_limit_per_class = test_limit_per_class
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.mean = mean
        self.std = std
        self._loaded = False
        self._train_key: str | None = None  # of a training split that is not the dataset's own

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make images small; a smoke run takes a few of them, see :class:`ddoq.data.FewImages`."""
        side = given.get("image_size", _TINY_SIDE)
        if isinstance(side, int) and side <= cls.max_image_size:  # others are refused as they are
            side = lower(side, _TINY_SIDE)
        return accepted(cls, {"image_size": side, "num_workers": 0})

    @abstractmethod
    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Open the data.

        Returns:
            The whole training split, the whole test split and the classes.
        """

    @abstractmethod
    def source_fingerprint(self) -> str:
        """Hash what the images come from (contents, not paths), before any limit."""

    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing."""
        if self._loaded:
            return
        train, test, self.classes = self.load_splits()
        self.check_splits(train, test)
        self.train = limit_classes(train, self.limit_per_class, len(self.classes))
        self.test = limit_classes(test, self.test_limit_per_class, len(self.classes))
        self._source = self.source_fingerprint()
        self._loaded = True

    def require_setup(self) -> None:
        """Refuse to go on with a dataset that is not open.

        Raises:
            UserError: Before :meth:`setup`.
        """
        if not self._loaded:
            raise UserError(f"{self.name} is not open yet: call setup() on the dataset first.")

    def check_splits(self, train: ImageSplit, test: ImageSplit) -> None:
        """Refuse splits whose labels are not those of ``classes``, or that lack one of them.

        Raises:
            UserError: Naming the split and the labels or classes.
        """
        for what, split in (("training", train), ("test", test)):
            self._check_labels(what, split.labels)

    def _check_labels(self, what: str, labels: Tensor) -> None:
        count = len(self.classes)
        if len(labels) == 0:
            raise UserError(f"The {what} split of {self.name} has no image.")
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= count:
            raise UserError(
                f"The {what} split of {self.name} has labels outside 0..{count - 1}: they go from "
                f"{lowest} to {highest}. (-1 often marks images without a label.)"
            )
        absent = torch.nonzero(torch.bincount(labels, minlength=count) == 0).flatten().tolist()
        if absent:
            names = ", ".join(self.classes[i].name for i in absent[:5])
            raise UserError(
                f"The {what} split of {self.name} has no image of {len(absent)} of {count} classes: "
                f"{names}{' ...' if len(absent) > 5 else ''}. {self.missing_classes_hint}".rstrip()
            )

    @property
    def num_classes(self) -> int:
        """How many classes there are; needs :meth:`setup`."""
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """Hash of all that :meth:`describe` says; needs :meth:`setup`."""
        return hash_config(self.describe())

    @property
    def train_fingerprint(self) -> str:
        """Hash of what decides the training images and their labels, and of nothing else; needs :meth:`setup`."""
        return seen_key(self.describe())

    @property
    def normalized_fingerprint(self) -> str:
        """As :attr:`train_fingerprint`, with mean and deviation, for parts that see normalised images."""
        return seen_key(self.describe(), normalized=True)

    @property
    def test_fingerprint(self) -> str:
        """Hash of what decides the test images and their labels; needs :meth:`setup`."""
        described = self.describe()
        names = ("source", "classes", "image_size", "test_limit_per_class", "test_images")
        return hash_config({name: described[name] for name in names})

    def with_train(self, split: ImageSplit) -> Self:
        """Return the same dataset with another training split; classes and test split stay.

        Args:
            split: Images of the same size, at least one of each class, e.g. a :class:`SubsetSplit` of ``train``.

        Returns:
            A dataset with a fingerprint of its own, made of this one's and of the positions, or of the images where they
            are no part of ``train``; this dataset itself, if the split is its own.

        Raises:
            UserError: If an image has another size, or the labels do not fit the classes.
        """
        self.setup()
        if split is self.train:
            return self
        self._check_labels("given training", split.labels)
        shape = tuple(split.load([0]).shape[1:])
        if shape != (3, self.image_size, self.image_size):
            raise UserError(
                f"{self.name} has images of {self.image_size} pixels, the given training split of {shape}: decode "
                "them at that size."
            )
        other = copy.copy(self)
        other.train = split
        known = {id(self.train): self.train_fingerprint}
        other._train_key = hash_config([self.train_fingerprint, hash_split(split, known)])
        return other

    def describe(self) -> dict[str, Any]:
        """Return what results record of the dataset, as JSON values; needs :meth:`setup`."""
        other = {} if self._train_key is None else {"train_split": self._train_key}
        return {
            "name": self.name,
            "source": self._source,
            "classes": self.classes.fingerprint,
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "limit_per_class": self.limit_per_class,
            "test_limit_per_class": self.test_limit_per_class,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "mean": self.mean,
            "std": self.std,
            **other,
        }

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return shuffled training batches: uint8 ``(b, 3, h, w)`` and int64 ``(b,)``."""
        return DataLoader(
            self.train, batch_size=self.batch_size, shuffle=True, num_workers=self.num_workers
        )

    def test_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return test batches; under DDP every image is seen exactly once."""
        return DataLoader(
            self.test,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            sampler=ExactDistributedSampler(self.test),
        )
