"""Splits: labelled images by index, in memory, a part of another, cut to the centre, or kept once decoded."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddoq.data.decoding import Encoded, fit_square
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config, hash_tensors

_HASHED_AT_ONCE = 256  # images
_LIMIT = (
    2 * 2**30
)  # bytes of a split that are kept unasked: ImageNette at 224 fits, ImageNet does not
_BATCH = 1024  # images decoded at a time, so that their encoded bytes are never all in memory


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

    def centred(self, size: int, resize: int) -> "ImageSplit":
        """Return the centres of the same images, from their source where there is a larger one.

        Args:
            size: Side in pixels of what is cut out.
            resize: What the shorter side of the whole image is brought to before, at least ``size``.

        Returns:
            A split of the same order and labels.
        """
        return CentredSplit(self, size, resize)

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


class CentredSplit(ImageSplit):
    """The centres of images that exist at one size only.

    Args:
        source: The split.
        size: Side in pixels of what is cut out.
        resize: What the shorter side is brought to before.
    """

    def __init__(self, source: ImageSplit, size: int, resize: int) -> None:
        self.source = source
        self.size = size
        self.resize = resize
        self.labels = source.labels

    def load(self, indices: Sequence[int]) -> Tensor:
        """Load, resize and cut; see :meth:`ImageSplit.load`."""
        return fit_square(self.source.load(indices), self.size, self.resize)


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
        return self if source is self.source else self._of(source)

    def centred(self, size: int, resize: int) -> ImageSplit:
        """Return the centres of the same images; see :meth:`ImageSplit.centred`."""
        return self._of(self.source.centred(size, resize))

    def _of(self, source: ImageSplit) -> "SubsetSplit":
        """Choose the same positions of another split; labels may have other numbers than the source's."""
        chosen = SubsetSplit(source, self.positions)
        chosen.labels = self.labels
        return chosen


class CachedSplit(ImageSplit):
    """Another split whose images stay in memory once they are decoded.

    Memory is taken as images are asked for. Worker processes of a loader keep a copy each, so that a loader
    without workers is the fastest once all is decoded.

    Args:
        source: The split that decodes.
        image_size: Side in pixels of its images.
    """

    def __init__(self, source: ImageSplit, image_size: int) -> None:
        self.source = source
        self.image_size = image_size
        self.labels = source.labels
        count = len(source)
        self._images = torch.empty(count, 3, image_size, image_size, dtype=torch.uint8)
        self._known = torch.zeros(count, dtype=torch.bool)

    def load(self, indices: Sequence[int]) -> Tensor:
        """Return images, decoding those that are new; see :meth:`ImageSplit.load`."""
        positions = torch.as_tensor(indices, dtype=torch.long)
        for chunk in positions[~self._known[positions]].unique().split(_BATCH):
            if len(chunk):
                self._images[chunk] = self.source.load(chunk.tolist())
                self._known[chunk] = True
        return self._images[positions]

    def sources(self, indices: Sequence[int]) -> list[Encoded] | None:
        """Return images as they are stored; see :meth:`ImageSplit.sources`."""
        return self.source.sources(indices)

    def at_size(self, size: int, *, stretch: bool = False) -> ImageSplit:
        """Return the source's images at another size, not kept in memory; see :meth:`ImageSplit.at_size`."""
        resized = self.source.at_size(size, stretch=stretch)
        return self if resized is self.source else resized

    def centred(self, size: int, resize: int) -> ImageSplit:
        """Return the centres of the same images, kept in memory; see :meth:`ImageSplit.centred`."""
        return CachedSplit(self.source.centred(size, resize), size)


def maybe_cached(split: ImageSplit, image_size: int, wanted: bool | None) -> ImageSplit:
    """Wrap a split in a :class:`CachedSplit` if that is wanted, or if it is small and nobody said.

    Args:
        split: The split that decodes.
        image_size: Side in pixels of its images.
        wanted: True or False decides; None keeps a split of under 2 GiB.

    Returns:
        The split, wrapped or as it was.
    """
    if wanted is None:
        wanted = len(split) * 3 * image_size**2 < _LIMIT
    return CachedSplit(split, image_size) if wanted else split


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
