"""Training batches: augmentation with parameters per image, and images kept on the device where they fit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddoq.data.base import ImageSplit
from ddoq.seeding import generator_for

# uint8 images, int64 labels, int64 positions in the split.
Batch = tuple[Tensor, Tensor, Tensor]

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
    """

    order: Tensor
    shifts: Tensor
    flips: Tensor


def draw_teacher_epoch(
    n: int, *, crop_pad: int, hflip: bool, seed: int, epoch: int
) -> TeacherEpoch:
    """Draw the choices of an epoch, on the CPU.

    Args:
        n: Number of training images.
        crop_pad: Largest shift in pixels.
        hflip: Whether half of the images are mirrored.
        seed: The seed of the teacher.
        epoch: Counts from 0.

    Returns:
        Order, shifts and flips.
    """
    generator = generator_for(seed, "teacher-epoch", epoch)
    order = torch.randperm(n, generator=generator)
    shifts = torch.randint(-crop_pad, crop_pad + 1, (n, 2), generator=generator)
    flips = torch.rand(n, generator=generator) < (0.5 if hflip else 0.0)
    return TeacherEpoch(order, shifts, flips)


def shift_and_flip(images: Tensor, shifts: Tensor, flips: Tensor, crop_pad: int) -> Tensor:
    """Crop every image at random from its zero-padded self, and mirror some.

    Equal to ``torchvision.transforms.v2.functional.crop`` of the padded image followed by ``horizontal_flip``,
    with parameters of its own for every image.

    Args:
        images: ``(n, c, h, w)``, any dtype.
        shifts: int64 ``(n, 2)``, each in [-crop_pad, crop_pad].
        flips: bool ``(n,)``.
        crop_pad: Pixels of black around the image.

    Returns:
        ``(n, c, h, w)`` of the same dtype.

    Example:
        >>> image = torch.tensor([[[[1, 2, 3]]]])
        >>> shift_and_flip(image, torch.tensor([[0, 1]]), torch.tensor([False]), 1).tolist()
        [[[[2, 3, 0]]]]
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (crop_pad, crop_pad, crop_pad, crop_pad)) if crop_pad else images
    rows = torch.arange(height, device=images.device) + shifts[:, :1] + crop_pad
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(flips.unsqueeze(1), width - 1 - columns, columns)
    columns = columns + shifts[:, 1:] + crop_pad
    number = torch.arange(n, device=images.device)[:, None, None]
    # Two indices around a slice put the channels last: (n, h, w, c), the layout that convolutions like best.
    return padded[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


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
