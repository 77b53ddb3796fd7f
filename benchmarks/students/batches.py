"""What a student's training loop iterates over: positions in the distilled set, and test images kept in memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ddoq.seeding import generator_for

Batch = tuple[Tensor, Tensor]


def batch_sizes(n: int, batch_size: int, world_size: int = 1) -> list[int]:
    """Return the sizes of the batches of an epoch; see :class:`EpochPositions` for the last of them.

    Example:
        >>> batch_sizes(7, 3), batch_sizes(5, 10)
        ([3, 4], [5])
    """
    sizes = [batch_size] * (n // batch_size)
    tail = n % batch_size
    if sizes and 0 < tail < 2 * world_size:
        sizes[-1] += tail
    elif tail:
        sizes.append(tail)
    return sizes


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of an epoch, int64 ``(n,)``."""
    return torch.randperm(n, generator=generator_for(seed, "order", epoch))


class EpochPositions:
    """Batches of positions: a permutation of the set, of its own for every epoch.

    Every rank sees the whole batch and takes its share of it, so that a batch is the same on any number of ranks.
    A last batch with fewer than two images a rank joins the one before: batch normalisation cannot train on one
    image, and a rank without any would hang the others.

    Args:
        n: Images in the set.
        batch_size: Images per optimiser step over all ranks.
        seed: The seed of the student.
        world_size: Number of ranks.
        members: int64 ``(n,)``, the positions of the images, where these are a part of the set; None where they are all.

    A training that goes on in the middle of an epoch begins behind the batches that were given out before.

    Attributes:
        epoch: Which permutation the next iteration takes; the training loop sets it.
        device: Where the positions are put, once an epoch.

    Example:
        >>> batches = EpochPositions(5, 2, seed=0)
        >>> [len(batch) for batch in batches]
        [2, 3]
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        world_size: int = 1,
        members: Tensor | None = None,
    ) -> None:
        self.n = n
        self.members = members
        self.seed = seed
        self.epoch = 0
        self.device = torch.device("cpu")
        self._first = self._given = 0
        self.sizes = batch_sizes(n, batch_size, world_size)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.sizes)

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the batches of the current epoch, int64 ``(b,)`` each."""
        order = epoch_order(self.n, self.seed, self.epoch)
        if self.members is not None:
            order = self.members[order]
        batches = order.to(self.device).split(self.sizes)[self._first :]
        self._given, self._first = self._first, 0
        for batch in batches:
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Say how many batches of the epoch were given out; Lightning keeps it in checkpoints."""
        return {"given": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration behind those; where they were all, it is the next epoch."""
        self._first = state["given"] % len(self)


class CachedBatches:
    """Test batches that are decoded once and stay on the device, as far as a budget of memory goes.

    Args:
        make_loader: Makes the loader; called at the first iteration, when the ranks are known.
        device: Where the batches are kept.
        budget: Bytes that may be kept; a larger set is decoded anew each time.
    """

    def __init__(
        self, make_loader: Callable[[], Iterable[Batch]], device: torch.device, budget: int
    ) -> None:
        self._loader = make_loader()
        self._device = device
        self._budget = budget
        self._kept: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over uint8 images ``(b, 3, h, w)`` and int64 labels ``(b,)``, on the device."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] | None = []
        size = 0
        # A loader draws a seed for its workers. Testing must not change what training draws afterwards.
        with torch.random.fork_rng(devices=[]):
            batches = iter(self._loader)
        for images, labels in batches:
            batch = (images.to(self._device), labels.to(self._device))
            size += images.numel()
            kept = None if kept is None or size > self._budget else [*kept, batch]
            yield batch
        self._kept = kept


def cache_budget(device: torch.device) -> int:
    """Return how many bytes of test images may stay on a device.

    Half of what is free on a GPU (the test set of ImageNet-1K at 224 pixels takes 7.5 GB), 2 GiB of main memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return 2 << 30
