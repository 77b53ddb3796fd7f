"""Exact sharding of a dataset over ranks: no sample twice, none left out."""

from collections.abc import Iterator, Sized

import torch.distributed as dist
from torch.utils.data import DistributedSampler

from ddoq.errors import UserError


class ExactDistributedSampler(DistributedSampler[int]):
    r"""Give rank :math:`r` of :math:`R` the samples :math:`r, r + R, r + 2R, \dots`, each once.

    ``DistributedSampler`` pads with repeated samples, which makes accuracies wrong: measured on 101 samples
    and 2 ranks, 0.9608 where the truth was 0.9703. It is the base class only because Lightning leaves samplers
    of that type alone. Ranks may differ by one sample, which is fine where nothing is reduced per step.

    Args:
        dataset: What is sampled.
        num_replicas: Number of ranks; that of the process group, or 1, where omitted.
        rank: This rank; that of the process group, or 0, where omitted.

    Raises:
        UserError: If there are fewer samples than ranks: a rank with no batch at all would hang the others.

    Example:
        >>> [list(ExactDistributedSampler(range(5), num_replicas=2, rank=rank)) for rank in (0, 1)]
        [[0, 2, 4], [1, 3]]
    """

    def __init__(
        self, dataset: Sized, num_replicas: int | None = None, rank: int | None = None
    ) -> None:
        distributed = dist.is_available() and dist.is_initialized()
        if num_replicas is None:
            num_replicas = dist.get_world_size() if distributed else 1
        if rank is None:
            rank = dist.get_rank() if distributed else 0
        super().__init__(dataset, num_replicas, rank, shuffle=False)  # type: ignore[arg-type]
        if len(dataset) < num_replicas:
            raise UserError(
                f"{len(dataset)} samples cannot be shared by {num_replicas} ranks: use fewer devices."
            )
        self._positions = range(rank, len(dataset), num_replicas)

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's positions, ascending."""
        return iter(self._positions)

    def __len__(self) -> int:
        """Count this rank's samples."""
        return len(self._positions)
