"""Training batches: augmentation with parameters per image, and images kept on the device where they fit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddoq.augmentation.epochs import draw_crops
from ddoq.augmentation.shifts import draw_shifts
from ddoq.data.splits import ImageSplit
from ddoq.seeding import generator_for

# uint8 images, int64 labels, int64 positions in the split.
Batch = tuple[Tensor, Tensor, Tensor]

CROP_RATIO = (3 / 4, 4 / 3)  # of random resized crops, width over height: torchvision's default

_MAIN_MEMORY = (
    8 * 2**30
)  # bytes of images that are kept in main memory; more are read batch by batch
_SHARE_OF_FREE_MEMORY = 0.5  # of a CUDA device; the rest is for the network


@dataclass(frozen=True)
class TeacherEpoch:
    """The random choices of one epoch, the same for any batch size or loader.

    Attributes:
        order: int64 ``(n,)``, a permutation of the positions.
        shifts: int64 ``(n, 2)``: rows and columns by which image i is moved, each within the crop padding.
        flips: bool ``(n,)``: whether image i is mirrored.
        crops: int64 ``(n, 4)``: top, left, height and width of what is cut out of image i and enlarged; None without.
    """

    order: Tensor
    shifts: Tensor
    flips: Tensor
    crops: Tensor | None = None

    def to(self, device: torch.device) -> "TeacherEpoch":
        """Copy to a device what images are changed by; the order stays."""
        crops = None if self.crops is None else self.crops.to(device)
        return TeacherEpoch(self.order, self.shifts.to(device), self.flips.to(device), crops)


def draw_teacher_epoch(
    n: int,
    *,
    crop_pad: int,
    hflip: bool,
    seed: int,
    epoch: int,
    crop_scale: tuple[float, float] | None = None,
    size: tuple[int, int] = (1, 1),
) -> TeacherEpoch:
    """Draw the choices of an epoch, on the CPU.

    Args:
        n: Number of training images.
        crop_pad: Largest shift in pixels.
        hflip: Whether half of the images are mirrored.
        seed: The seed of the teacher.
        epoch: Counts from 0.
        crop_scale: Smallest and largest share of the area of random resized crops; None cuts nothing out.
        size: Height and width of the images, for these crops.

    Returns:
        Order, shifts, flips and crops.
    """
    generator = generator_for(seed, "teacher-epoch", epoch)
    order = torch.randperm(n, generator=generator)
    shifts = draw_shifts(n, crop_pad, generator)
    flips = torch.rand(n, generator=generator) < (0.5 if hflip else 0.0)
    if crop_scale is None:
        return TeacherEpoch(order, shifts, flips)
    crop_generator = generator_for(seed, "teacher-epoch", epoch, "crop")
    return TeacherEpoch(
        order, shifts, flips, draw_crops(n, size, crop_scale, CROP_RATIO, crop_generator)
    )


def batches_of(order: Tensor, batch_size: int) -> list[Tensor]:
    """Split an order into whole batches.

    The rest is left out, since a batch of one has no batch statistics; another order leaves out
    others. Fewer images than a batch make one batch of all.

    Args:
        order: int64 ``(n,)``.
        batch_size: Images a batch.

    Returns:
        Positions, batch by batch.

    Example:
        >>> [batch.tolist() for batch in batches_of(torch.arange(5), 2)]
        [[0, 1], [2, 3]]
    """
    size = min(batch_size, len(order))
    return list(order[: len(order) // size * size].split(size))


def fits(num_bytes: int, device: torch.device) -> bool:
    """Say whether images of so many bytes may stay on a device."""
    if device.type == "cuda":
        return num_bytes <= torch.cuda.mem_get_info(device)[0] * _SHARE_OF_FREE_MEMORY
    return num_bytes <= _MAIN_MEMORY


class ResidentBatches:
    """Batches out of images that are already on the device.

    Args:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``, on the same device.
        positions: Positions, batch by batch, on the same device.
    """

    def __init__(self, images: Tensor, labels: Tensor, positions: Sequence[Tensor]) -> None:
        self.images = images
        self.labels = labels
        self.positions = positions

    def __len__(self) -> int:
        """Count the batches."""
        return len(self.positions)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the batches."""
        for batch in self.positions:
            yield self.images[batch], self.labels[batch], batch


class _Positioned(Dataset[Batch]):
    """Decodes a whole batch at once and says which images it holds."""

    def __init__(self, split: ImageSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, positions: list[int]) -> Batch:
        index = torch.tensor(positions)
        return self.split.load(positions), self.split.labels[index], index


def _unchanged(batch: Any) -> Any:  # __getitems__ has collated it
    return batch


def streamed_batches(
    split: ImageSplit, positions: Sequence[Tensor], num_workers: int
) -> Iterable[Batch]:
    """Read batches that are too many to keep, in worker processes.

    Args:
        split: Where the images come from.
        positions: Positions, batch by batch.
        num_workers: Worker processes.

    Returns:
        A loader of the same batches that :class:`ResidentBatches` would give.
    """
    return DataLoader(
        _Positioned(split),
        batch_sampler=[batch.tolist() for batch in positions],
        collate_fn=_unchanged,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def load_split(split: ImageSplit, chunk: int = 2048) -> Tensor:
    """Decode a whole split, uint8 ``(n, 3, h, w)``, chunk by chunk into one tensor."""
    first = split.load([0])
    images = torch.empty((len(split), *first.shape[1:]), dtype=first.dtype)
    for start in range(0, len(split), chunk):
        stop = min(start + chunk, len(split))
        images[start:stop] = split.load(range(start, stop))
    return images


class DeviceSplit:
    """The images of a split, on a device where they fit, otherwise read as they are asked for.

    Args:
        split: The images.
        device: Where they are wanted.
    """

    def __init__(self, split: ImageSplit, device: torch.device) -> None:
        self._split = split
        self._device = device
        room = len(split) * split.load([0]).numel()
        self._resident = load_split(split).to(device) if fits(room, device) else None

    def __len__(self) -> int:
        """Count the images."""
        return len(self._split)

    def take(self, positions: Tensor) -> Tensor:
        """Return some images, uint8 ``(b, 3, h, w)``, on the device."""
        if self._resident is None:
            return self._split.load(positions.tolist()).to(self._device)
        return self._resident[positions.to(self._device)]
