"""Scikit-learn's handwritten digits: real images that need no download and train on a CPU in seconds."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import ImageSplit, TensorSplit
from ddoq.images import to_uint8
from ddoq.storage.fingerprints import hash_tensors

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LEVELS = 16  # scikit-learn counts the dark pixels in 4 x 4 blocks: 0 to 16


class Digits(ImageDataModule):
    """1797 handwritten digits of 8 x 8 pixels, enlarged; a quarter of each class is the test split.

    The split is stratified and the same on every machine; its contents are part of the fingerprint.

    Args:
        image_size: Side in pixels; the stored 8 x 8 pixels are enlarged by bicubic interpolation.
        limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        test_limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        batch_size: Images a batch in the loaders.
        num_workers: Worker processes a loader.
        mean: Channel means.
        std: Channel standard deviations.

    Example:
        >>> data = Digits()
        >>> data.setup()
        >>> tuple(data.train[0][0].shape), len(data.train), len(data.test)
        ((3, 16, 16), 1347, 450)
    """

    name = "digits"
    max_image_size = 512  # 1797 images in memory, as float32 while they are enlarged

    def __init__(
        self,
        image_size: int = 16,
        limit_per_class: int | None = None,
        test_limit_per_class: int | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__(
            image_size, limit_per_class, test_limit_per_class, batch_size, num_workers, mean, std
        )
        self._stored: dict[str, Tensor] = {}

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Read, split and enlarge; see :meth:`ImageDataModule.load_splits`."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        source: Any = load_digits()
        pixels = torch.as_tensor(source.images, dtype=torch.float32)
        labels = torch.as_tensor(source.target, dtype=torch.long)
        train, test = train_test_split(
            torch.arange(len(labels)).numpy(),
            test_size=0.25,
            random_state=0,
            stratify=source.target,
        )
        for what, positions in (("train", train), ("test", test)):
            kept = torch.as_tensor(positions).sort().values
            self._stored[f"{what}_images"] = pixels[kept]
            self._stored[f"{what}_labels"] = labels[kept]
        registry = ClassRegistry(
            [str(digit) for digit in range(10)],
            names=list(_NAMES),
            prompts=[f"a handwritten digit {name}" for name in _NAMES],
        )
        return self._split("train"), self._split("test"), registry

    def source_fingerprint(self) -> str:
        """Hash the stored pixels and labels of both splits."""
        return hash_tensors(self._stored)

    def _split(self, what: str) -> TensorSplit:
        images = self._stored[f"{what}_images"].unsqueeze(1) / _LEVELS
        size = [self.image_size, self.image_size]
        if images.shape[-1] != self.image_size:
            images = tv.resize(images, size, tv.InterpolationMode.BICUBIC, antialias=True)
        images = to_uint8(images)  # clips what bicubic interpolation overshoots
        return TensorSplit(
            images.expand(-1, 3, -1, -1).contiguous(), self._stored[f"{what}_labels"]
        )
