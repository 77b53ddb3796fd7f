"""Ranks that distilled together train their students apart, and meet again at the end."""

import contextlib
import uuid
from datetime import timedelta
from pathlib import Path

import lightning as L
import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.distributed import FileStore  # type: ignore[attr-defined]

_PATIENCE = timedelta(days=7)  # students of one rank may take much longer than those of another


class Ranks:
    """Leave the process group, so that every rank is a one-device run of its own, and join up at the end.

    Metrics synchronise themselves wherever a process group exists: a student that is trained and tested on
    one device must not find one. Meeting goes through a file in the output folder, which all ranks share.

    Args:
        trainer: The trainer that distilled.
        folder: A folder that all ranks see.
    """

    def __init__(self, trainer: L.Trainer, folder: Path) -> None:
        self.rank = trainer.global_rank
        self.world_size = trainer.world_size
        token = trainer.strategy.broadcast(uuid.uuid4().hex)
        self._file = folder / f".ranks-{token}"

    def part(self) -> None:
        """Dissolve the process group; from here on this process acts as the first and only rank."""
        if self.world_size == 1:
            return
        if dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()
        setattr(rank_zero_only, "rank", 0)  # noqa: B010 - a function attribute, unknown to type checkers

    def meet(self) -> None:
        """Wait until every rank is here; then only rank 0 speaks again."""
        if self.world_size == 1:
            return
        setattr(rank_zero_only, "rank", self.rank)  # noqa: B010
        store = FileStore(str(self._file), self.world_size)
        store.set(f"done-{self.rank}", "1")
        store.wait([f"done-{rank}" for rank in range(self.world_size)], _PATIENCE)
        store.set(f"left-{self.rank}", "1")
        if self.rank == 0:
            store.wait([f"left-{rank}" for rank in range(self.world_size)], _PATIENCE)
            with contextlib.suppress(FileNotFoundError):
                self._file.unlink()
