"""Fashion-MNIST from idx files, the format of the MNIST family."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import ImageSplit, TensorSplit
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_tensors

_DEFAULT_ROOT = "/usr/share/datasets/fashion-mnist"  # where Debian's package puts the files
_STORED_SIZE = 28
_FRAMED_SIZE = 32
# Names and order: https://github.com/zalandoresearch/fashion-mnist#labels
_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def read_idx(path: Path) -> Tensor:
    """Read an idx file of unsigned bytes, gzipped or not.

    The format is: two zero bytes, the type (8 is unsigned byte), the number of dimensions, the dimensions as
    big-endian 32-bit integers, the values in row-major order (http://yann.lecun.com/exdb/mnist/).

    Args:
        path: The file; a name that ends in ``.gz`` is unpacked.

    Returns:
        uint8 tensor of the shape that the header states.

    Raises:
        UserError: If the file cannot be read or its size differs from what its header states.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}). Fetch it again.") from None
    rank = data[3] if len(data) > 3 else 0
    start = 4 + 4 * rank
    if rank == 0 or data[:3] != b"\0\0\x08" or len(data) < start:
        raise UserError(f"{path} is not an idx file of unsigned bytes. Fetch it again.")
    shape = np.frombuffer(data[4:start], dtype=">u4").astype(np.int64).tolist()
    if len(data) - start != np.prod(shape):
        raise UserError(f"{path} is cut short or too long for its shape {shape}. Fetch it again.")
    return torch.frombuffer(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)


class FashionMNIST(ImageDataModule):
    """70,000 grey images of clothes, 60,000 of them for training (Xiao et al., 2017).

    By default the 28 x 28 pixels get a black frame of two pixels, their background's own colour: no pixel is
    resampled, and 32 can be halved as often as autoencoders do. ``image_size: 28`` leaves them as stored; any
    other size resamples the framed image. The one channel is repeated three times.

    Args:
        root: Folder with the four idx files, gzipped or not.
        image_size: Side in pixels of the images.
        limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        test_limit_per_class: See :class:`~ddoq.data.base.ImageDataModule`.
        batch_size: Images a batch in the loaders.
        num_workers: Worker processes a loader.
        mean: Channel means.
        std: Channel standard deviations.
    """

    name = "fashion-mnist"
    max_image_size = 256  # 70,000 images in memory

    def __init__(
        self,
        root: str = _DEFAULT_ROOT,
        image_size: int = _FRAMED_SIZE,
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
        self.root = Path(root).expanduser()
        self._stored: dict[str, Tensor] = {}

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        """Read the four files; see :meth:`ImageDataModule.load_splits`."""
        for what, prefix in (("train", "train"), ("test", "t10k")):
            images, labels = self._read(
                f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
            )
            self._stored |= {f"{what}_images": images, f"{what}_labels": labels}
        prompts = [f"a photo of a {name}" for name in _NAMES]
        registry = ClassRegistry([str(i) for i in range(10)], names=list(_NAMES), prompts=prompts)
        train, test = (
            TensorSplit(
                self._framed(self._stored[f"{what}_images"]), self._stored[f"{what}_labels"]
            )
            for what in ("train", "test")
        )
        return train, test, registry

    def source_fingerprint(self) -> str:
        """Hash the stored pixels and labels: gzipped and plain files count the same."""
        return hash_tensors(self._stored)

    def _read(self, images_file: str, labels_file: str) -> tuple[Tensor, Tensor]:
        images, labels = read_idx(self._find(images_file)), read_idx(self._find(labels_file))
        if images.shape[1:] != (_STORED_SIZE, _STORED_SIZE) or labels.shape != images.shape[:1]:
            raise UserError(
                f"{self.root}: {images_file} {tuple(images.shape)} and {labels_file} "
                f"{tuple(labels.shape)} do not belong together."
            )
        return images, labels.long()

    def _find(self, file: str) -> Path:
        for name in (file, f"{file}.gz"):
            if (self.root / name).is_file():
                return self.root / name
        raise UserError(
            f"{self.root / file}[.gz] does not exist. Install Debian's package dataset-fashion-mnist "
            f"(apt-get install dataset-fashion-mnist), or set `root` to a folder with the four idx files."
        )

    def _framed(self, images: Tensor) -> Tensor:
        images = images.unsqueeze(1)
        if self.image_size != _STORED_SIZE:
            images = F.pad(images, [(_FRAMED_SIZE - _STORED_SIZE) // 2] * 4)
        if self.image_size not in (_STORED_SIZE, _FRAMED_SIZE):
            images = tv.resize(images, [self.image_size, self.image_size], antialias=True)
        return images.expand(-1, 3, -1, -1).contiguous()
