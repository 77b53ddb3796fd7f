"""What every dataset offers: classes and fingerprints; of images also two splits of labelled uint8 images."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import TypeVar

from ddoq.bounds import check_normalisation
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.decoding import MAX_IMAGE_SIZE, check_image_size
from ddoq.data.sampler import ExactDistributedSampler
from ddoq.data.splits import ImageSplit, hash_split, limit_classes
from ddoq.errors import UserError
from ddoq.smoke import Tiny, accepted, lower
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import seen_key

# Mean and standard deviation of ImageNet in RGB, as torchvision's reference training code states them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What the shorter side of a test image is brought to before the centre is cut out, by the side of the images: as
# torchvision's weights, SRe2L and D4M are tested. Other sides show the whole image.
TEST_RESIZE = {224: 256}
_TINY_SIDE = 16  # pixels; autoencoders and ConvNets halve it four times


def check_test_resize(option: str, image_size: int, resize: int) -> None:
    """Refuse what test images cannot be resized to, before their centre is cut out.

    Raises:
        UserError: If it is no whole number, below the side of the images, or above twice as much, which would show a
            quarter of an image.
    """
    if not isinstance(resize, int) or not image_size <= resize <= 2 * image_size:
        raise UserError(
            f"{option} must be a whole number from {image_size} (image_size) to {2 * image_size}, not {resize!r}: the "
            "shorter side of a test image is brought to it, then the centre is cut out."
        )


class LabelledData(Tiny, L.LightningDataModule, ABC):
    """A labelled dataset: what the key ``data`` of a configuration may name.

    Attributes:
        holds: What its samples are, in the plural, e.g. ``images``.
        name: What tables call it.
        classes: Its classes; there after :meth:`setup`.
    """

    holds: ClassVar[str]
    name: str
    classes: ClassRegistry
    _loaded: bool = False

    @abstractmethod
    def setup(self, stage: str = "") -> None:
        """Open the data once; later calls do nothing."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what results record of the dataset, as JSON values; needs :meth:`setup`."""

    def require_setup(self) -> None:
        """Refuse to go on with a dataset that is not open.

        Raises:
            UserError: Before :meth:`setup`.
        """
        if not self._loaded:
            raise UserError(f"{self.name} is not open yet: call setup() on the dataset first.")

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
        """Hash of what decides the training samples and their labels, and of nothing else; needs :meth:`setup`."""
        return seen_key(self.describe())

    @property
    def normalized_fingerprint(self) -> str:
        """As :attr:`train_fingerprint`, with mean and deviation, for parts that see normalised samples."""
        return seen_key(self.describe(), normalized=True)


class ImageDataModule(LabelledData):
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
        test_resize: What the shorter side of a test image is brought to before its centre of ``image_size`` is cut out;
            None takes the recipe's for students, and :data:`TEST_RESIZE` for the accuracy of teachers.

    Attributes:
        test: The test images, resized and cut as ``test_resize`` says now.
        whole_test: The same images without a border cut off.

    Raises:
        UserError: If the size is no whole number from 1 to ``max_image_size``, a batch size below 1, a number of workers
            below 0, a deviation not positive, or ``test_resize`` below ``image_size`` or above twice as much.
    """

    holds = "images"
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
        test_resize: int | None = None,
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
        if test_resize is not None:
            check_test_resize("test_resize", image_size, test_resize)
        self.given_test_resize = test_resize
        self.test_resize = test_resize or TEST_RESIZE.get(image_size, image_size)
        self._train_key: str | None = None  # of a training split that is not the dataset's own

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make images small; a smoke run takes a few of them, see :class:`ddoq.data.FewImages`."""
        side = given.get("image_size", _TINY_SIDE)
        if isinstance(side, int) and side <= cls.max_image_size:  # others are refused as they are
            side = lower(side, _TINY_SIDE)
        resized = {} if given.get("test_resize") is None else {"test_resize": None}
        return accepted(cls, {"image_size": side, "num_workers": 0, **resized})

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
        self.whole_test = limit_classes(test, self.test_limit_per_class, len(self.classes))
        self.test = self._resized_test()
        self._source = self.source_fingerprint()
        self._loaded = True

    def _resized_test(self) -> ImageSplit:
        if self.test_resize == self.image_size:
            return self.whole_test
        return self.whole_test.centred(self.image_size, self.test_resize)

    def with_test_resize(self, resize: int) -> Self:
        """Return the same dataset with its test images as a protocol resizes them, unless ``test_resize`` was given.

        Args:
            resize: What the shorter side is brought to before the centre is cut out, at least ``image_size``.

        Returns:
            A dataset that differs in :attr:`test` alone; this one where nothing changes.
        """
        self.setup()
        if self.given_test_resize is not None or resize == self.test_resize:
            return self
        other = copy.copy(self)
        other.test_resize = resize
        other.test = other._resized_test()
        return other

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
    def test_fingerprint(self) -> str:
        """Hash of what decides the test images and their labels; needs :meth:`setup`."""
        described = self.describe()
        names = ("source", "classes", "image_size", "test_limit_per_class", "test_images")
        return hash_config({name: described[name] for name in names} | self._cut_off())

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
            **self._cut_off(),
            **other,
        }

    def _cut_off(self) -> dict[str, int]:
        """Return how test images are resized where something is cut off; elsewhere nothing, and keys are what they were."""
        return {} if self.test_resize == self.image_size else {"test_resize": self.test_resize}

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


# What a method, or a part of one, works on: images, unless it says otherwise.
Data = TypeVar("Data", bound=LabelledData, default=ImageDataModule)
