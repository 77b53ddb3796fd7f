"""Ranks of a distillation: when their processes start, where each works, and what those that work in step exchange."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor

T = TypeVar("T")

_ALIGNMENT = 16  # bytes: that of the widest dtype, so that every tensor can be viewed in place


def start_ranks(trainer: L.Trainer) -> None:
    """Start the processes of all ranks now, where the trainer would start them with its first call.

    From here on every rank runs the same script; there is no process group yet.

    Args:
        trainer: A trainer; with one device, or processes that somebody else starts, nothing happens.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1 or not isinstance(launcher, _SubprocessScriptLauncher):
        return
    if not launcher.procs:
        launcher.launch(lambda: None)


def one_device(trainer: L.Trainer) -> dict[str, Any]:
    """Say where this rank works alone, as arguments for ``lightning.Trainer``."""
    device = trainer.strategy.root_device
    return {
        "accelerator": device.type,
        "devices": 1 if device.index is None else [device.index],
        "precision": trainer.precision,
        "enable_progress_bar": trainer.progress_bar_callback is not None,
    }


@dataclass(frozen=True)
class RankGroup:
    """The ranks that work in step; all of them call its methods, in the same order.

    Attributes:
        rank: The number of this one.
        size: How many there are; one alone needs no process group.

    Example:
        >>> RankGroup().all_gather([torch.ones(2)], torch.device("cpu"))
        [[tensor([1., 1.])]]
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> range:
        """Return the numbers of this rank's items: every ``size``-th of ``count``.

        Example:
            >>> [list(RankGroup(rank, 2).share(5)) for rank in (0, 1)]
            [[0, 2, 4], [1, 3]]
        """
        return range(self.rank, count, self.size)

    def from_first(self, value: T) -> T:
        """Return the value of rank 0, which can be pickled, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def all_gather(self, tensors: Sequence[Tensor], device: torch.device) -> list[list[Tensor]]:
        """Give every rank the tensors of all ranks.

        Args:
            tensors: This rank's, of any shapes and dtypes; as many as it likes, or none.
            device: Where the results shall be.

        Returns:
            For each rank its tensors: contiguous copies without gradient, equal bit by bit on every rank.
        """
        mine = [tensor.detach().contiguous() for tensor in tensors]
        if self.size == 1:
            return [[tensor.to(device, copy=True) for tensor in mine]]
        shapes: list[list[tuple[torch.dtype, torch.Size]]] = [[] for _ in range(self.size)]
        dist.all_gather_object(shapes, [(tensor.dtype, tensor.shape) for tensor in mine])
        # gloo sends from the memory of the CPU, NCCL from that of the GPU.
        place = device if dist.get_backend() == "nccl" else torch.device("cpu")
        longest = max(sum(_span(*shape) for shape in part) for part in shapes)
        sent = torch.zeros(longest, dtype=torch.uint8, device=place)
        for tensor, block in zip(mine, _blocks(sent, shapes[self.rank]), strict=True):
            block.copy_(tensor.reshape(-1).view(torch.uint8))
        received = [torch.empty_like(sent) for _ in shapes]
        if longest:
            dist.all_gather(received, sent)
        return [
            [
                block.view(dtype).reshape(shape).to(device, copy=True)
                for block, (dtype, shape) in zip(_blocks(buffer, part), part, strict=True)
            ]
            for buffer, part in zip(received, shapes, strict=True)
        ]


def _span(dtype: torch.dtype, shape: torch.Size) -> int:
    """Return the bytes that a tensor takes, with what aligns the next one."""
    return -(-dtype.itemsize * shape.numel() // _ALIGNMENT) * _ALIGNMENT


def _blocks(buffer: Tensor, shapes: Sequence[tuple[torch.dtype, torch.Size]]) -> Iterator[Tensor]:
    """Cut the bytes of one rank into those of its tensors."""
    start = 0
    for dtype, shape in shapes:
        yield buffer[start : start + dtype.itemsize * shape.numel()]
        start += _span(dtype, shape)


def in_item_order(shares: Sequence[Sequence[T]]) -> list[T]:
    """Put what ranks hold of their items, see :meth:`RankGroup.share`, into the order of the items.

    Args:
        shares: For each rank what belongs to its items, in their order.

    Raises:
        ValueError: If a rank holds more or fewer than it has items.

    Example:
        >>> in_item_order([["a", "c"], ["b"]])
        ['a', 'b', 'c']
    """
    count = sum(len(share) for share in shares)
    if any(
        len(share) != len(RankGroup(rank, len(shares)).share(count))
        for rank, share in enumerate(shares)
    ):
        held = [len(share) for share in shares]
        raise ValueError(f"Every rank must give one tensor for each of its items; given: {held}.")
    return [shares[index % len(shares)][index // len(shares)] for index in range(count)]
