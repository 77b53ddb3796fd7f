"""Decoded images kept in memory, each decoded at most once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ddoq.data.base import ImageSplit
from ddoq.data.decoding import Encoded

_LIMIT = (
    2 * 2**30
)  # bytes of a split that are kept unasked: ImageNette at 224 fits, ImageNet does not
_BATCH = 1024  # images decoded at a time, so that their encoded bytes are never all in memory


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
