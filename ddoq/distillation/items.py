"""How work items are shared among ranks, done, resumed and written: the half of a distiller that Lightning runs."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddoq.console import Progress
from ddoq.data import Data
from ddoq.data.sampler import ExactDistributedSampler
from ddoq.distillation.joint import JointCheckpoint
from ddoq.distillation.ranks import RankGroup, in_item_order
from ddoq.distillation.run import Run, Unsaved
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.finite import NotFiniteError
from ddoq.storage.checkpoints import INTERVAL, Checkpoint
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.provenance import forget_peak_memory, peak_memory, provenance


class ItemRunner(L.LightningModule, ABC, Generic[Data]):
    """Does work items through ``Trainer.predict`` and writes a shard for each.

    ``Trainer.fit`` under DDP refuses a module without trainable parameters, while ``predict`` shards items exactly and
    wraps nothing.

    Attributes:
        checkpoint_seconds: Time between two checkpoints of an item; 0 saves whenever a method asks. No part of keys.
    """

    method: str
    checkpoint_seconds: float = INTERVAL
    data: Data
    _run: Run | None = None
    _progress: Progress | None = None

    @property
    def needs_gradient(self) -> bool:
        """Whether :meth:`distill` takes gradients; ``predict`` alone would forbid them."""
        return False

    @property
    def joint(self) -> bool:
        """Whether items depend on one another, so that :meth:`distill_jointly` does them all in step."""
        return False

    @abstractmethod
    def work_items(self, data: Data) -> list[WorkItem]:
        """List the work items, in a fixed order: what can be done independently, unless they are ``joint``."""

    def distill(self, item: WorkItem) -> Shard:
        """Do one work item. Every random draw comes from a generator keyed by seed and item."""
        raise NotImplementedError(
            f"{type(self).__name__} lacks distill, or distill_jointly where it is joint."
        )

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        """Do this rank's share of items that depend on one another; every rank calls it, also one without items.

        What an item needs of the others it gets through :meth:`all_gather_items`. All else (networks, orders) every
        rank computes for itself from draws that are keyed by seed and step, so that any number of ranks gives the same
        bits.

        Args:
            items: This rank's.

        Returns:
            Their shards.
        """
        return [self.distill(item) for item in items]

    @property
    def output(self) -> Path:
        """The output folder, while it runs."""
        return self._running().folder.root

    def enter(self, run: Run) -> None:
        """Take part in a run: of one's own, or of the wrapper that one is in."""
        self._run = run

    def checkpoint(self, item: WorkItem) -> Checkpoint:
        """Return the checkpoint of an item, beside its shard; it is removed once the shard is written.

        Args:
            item: The item that is worked on.
        """
        return Unsaved() if self._run is None else self._run.checkpoint(item)

    def joint_checkpoint(self) -> JointCheckpoint:
        """Return the checkpoint of joint items; all ranks save and load it together."""
        items = self.work_items(self.data)
        if self._run is None:
            return JointCheckpoint(None, "", items)
        return self._run.joint_checkpoint(items)

    def all_gather_items(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Give every rank a tensor of each item, in the order of the items.

        All ranks must call it equally often. No gradient goes through it.

        Args:
            tensors: One for each of this rank's items; shapes may differ.

        Returns:
            Contiguous copies on this module's device, the same bits on every rank.
        """
        ranks = RankGroup() if self._run is None else self._run.ranks
        return in_item_order(ranks.all_gather(tensors, self.device))

    def predict_dataloader(self) -> DataLoader[int]:
        """Return the numbers of this rank's missing items.

        Rank 0 looks and tells the others, so that ranks cannot disagree about the file system. Entries of
        -1 pad the list where there are fewer items than ranks, since a rank without a batch would stop all
        others. Numbers, not items: Lightning moves what it knows to the device, and items are frozen. Joint items
        are one batch a rank.
        """
        world_size = self.trainer.world_size
        numbers: list[int] = self.trainer.strategy.broadcast(
            [item.index for item in self._pending()] if self.trainer.is_global_zero else []
        )
        if self.joint and numbers:
            numbers = list(range(world_size))
        numbers += [-1] * (world_size - len(numbers))
        ranks = {"num_replicas": world_size, "rank": self.trainer.global_rank}
        sampler = ExactDistributedSampler(numbers, **ranks)
        if self.trainer.progress_bar_callback is None:  # it would count the same items
            unit = "work items" if world_size == 1 else "work items of the first rank"
            self._progress = Progress(self.method, len(sampler), unit=unit)
        return DataLoader(
            numbers,  # type: ignore[arg-type]
            batch_size=None,
            sampler=sampler,
            collate_fn=lambda number: number,
        )

    def predict_step(self, batch: int, batch_idx: int) -> int:
        """Do one work item, or all joint ones, write the shards, and return the batch."""
        if batch < 0:
            return batch
        with ExitStack() as stack:
            if self.needs_gradient:
                stack.enter_context(torch.inference_mode(mode=False))
                stack.enter_context(torch.enable_grad())
            if self.joint:
                self._do_jointly()
            else:
                self._do(self.work_items(self.data)[batch])
        if self._progress is not None:
            self._progress.update(batch_idx + 1)
        return batch

    def _do(self, item: WorkItem) -> None:
        run = self._running()
        run.begin(RankGroup())
        forget_peak_memory()
        started = time.perf_counter()
        with self._clearing_if_not_finite([item]):
            shard = self.distill(item)
            self._write(item, shard, run.earlier_seconds() + time.perf_counter() - started)
        run.clear(item)

    def _do_jointly(self) -> None:
        run = self._running()
        ranks = RankGroup(self.trainer.global_rank, self.trainer.world_size)
        run.begin(ranks)
        items = self.work_items(self.data)
        mine = [items[number] for number in ranks.share(len(items))]
        forget_peak_memory()
        started = time.perf_counter()
        with self._clearing_if_not_finite(mine):
            shards = self.distill_jointly(mine)
            seconds = (time.perf_counter() - started) / max(len(mine), 1)
            for index, (item, shard) in enumerate(zip(mine, shards, strict=True)):
                self._write(item, shard, run.earlier_seconds(index, len(mine)) + seconds)
        ranks.barrier()  # as long as one shard is missing, all items are done again from their checkpoints
        for item in mine:
            run.clear(item)

    @contextmanager
    def _clearing_if_not_finite(self, items: Sequence[WorkItem]) -> Iterator[None]:
        """Remove the checkpoints of items whose numbers are not finite; name the item where it is one."""
        try:
            yield
        except NotFiniteError as error:
            for item in items:
                self._running().clear(item)
            if len(items) > 1 or any(item.name in str(error) for item in items):
                raise
            where = ", ".join([self.method, *(item.name for item in items)])
            raise NotFiniteError(f"{where}: {error}") from error

    def _write(self, item: WorkItem, shard: Shard, seconds: float) -> None:
        record: dict[str, Any] = {
            "seconds": seconds,
            "peak_memory": peak_memory(),
            "provenance": provenance(),
        }
        shard.save(self._path(item), record)

    def _running(self) -> Run:
        if self._run is None:
            raise RuntimeError(f"{type(self).__name__} does not run: call its method `run`.")
        return self._run

    def _path(self, item: WorkItem) -> Path:
        run = self._running()
        return run.folder.shard(run.key, item.name)

    def _pending(self) -> list[WorkItem]:
        """Return the items without a shard; a damaged one is set aside."""
        items = self.work_items(self.data)
        return [item for item in items if read_or_set_aside(self._path(item), Shard.load) is None]

    def _clear_checkpoints(self) -> None:
        """Remove what a kill left between the writing of a shard and the removal of its checkpoint."""
        for item in self.work_items(self.data):
            self._running().clear(item)
