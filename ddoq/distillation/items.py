"""How work items are shared among ranks, done, resumed and written: the half of a distiller that Lightning runs."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddoq.console import Progress
from ddoq.data import ImageDataModule
from ddoq.data.sampler import ExactDistributedSampler
from ddoq.distillation.joint import JointCheckpoint
from ddoq.distillation.ranks import RankGroup, in_item_order
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.storage.checkpoints import INTERVAL, Checkpoint
from ddoq.storage.provenance import peak_memory, provenance
from ddoq.storage.run_folder import RunFolder


@dataclass
class Run:
    """Where a run works, and under which key.

    Attributes:
        folder: The output folder.
        key: Hash of everything that decides the shards.
        ranks: Those that work in step, while joint items run; otherwise this one alone.
        checkpoints: Those of the items that are being worked on, by name.
        joint: That of joint items.
    """

    folder: RunFolder
    key: str
    ranks: RankGroup = field(default_factory=RankGroup)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    joint: JointCheckpoint | None = None

    def checkpoint_path(self, name: str) -> Path:
        """Return the file of a checkpoint, beside the shards."""
        return self.folder.checkpoint(self.key, name)

    def clear(self, item: WorkItem) -> None:
        """Remove what was kept of an item whose shard is written: all whose names go on after its own with a dot."""
        pattern = self.checkpoint_path(f"{item.name}.*")
        for path in (self.checkpoint_path(item.name), *pattern.parent.glob(pattern.name)):
            Checkpoint(path, self.key).clear()


class Unsaved(Checkpoint):
    """Stands in for a checkpoint where nothing is kept: for an item that is done outside of a run."""

    def __init__(self) -> None:
        super().__init__(Path("unsaved"), "")

    def due(self) -> bool:
        """Never be due."""
        return False

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Save nothing."""

    def load(self) -> None:
        """Find nothing."""

    def clear(self) -> None:
        """Remove nothing."""


class ItemRunner(L.LightningModule, ABC):
    """Does work items through ``Trainer.predict`` and writes a shard for each.

    ``Trainer.fit`` under DDP refuses a module without trainable parameters, while ``predict`` shards items exactly and
    wraps nothing.

    Attributes:
        checkpoint_seconds: Time between two checkpoints of an item; 0 saves whenever a method asks. No part of keys.
    """

    method: ClassVar[str]
    checkpoint_seconds: float = INTERVAL
    data: ImageDataModule
    _run: Run | None = None
    _progress: Progress

    @property
    def needs_gradient(self) -> bool:
        """Whether :meth:`distill` takes gradients; ``predict`` alone would forbid them."""
        return False

    @property
    def joint(self) -> bool:
        """Whether items depend on one another, so that :meth:`distill_jointly` does them all in step."""
        return False

    @abstractmethod
    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
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
            item: The item that is worked on. A wrapper may give what it wraps items of other names, which begin with
                that of its own item and a dot.
        """
        run = self._run
        if run is None:
            return Unsaved()
        if item.name not in run.checkpoints:
            path = run.checkpoint_path(item.name)
            key = f"{run.key}-{item.name}"
            run.checkpoints[item.name] = Checkpoint(path, key, self.checkpoint_seconds)
        return run.checkpoints[item.name]

    def joint_checkpoint(self) -> JointCheckpoint:
        """Return the checkpoint of joint items; all ranks save and load it together."""
        run, items = self._run, self.work_items(self.data)
        if run is None:
            return JointCheckpoint(None, "", items)
        if run.joint is None:
            seconds = self.checkpoint_seconds
            run.joint = JointCheckpoint(run.checkpoint_path, run.key, items, run.ranks, seconds)
        return run.joint

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
        self._progress = Progress(self.method, len(sampler), unit="work items")
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
        self._progress.update(batch_idx + 1)
        return batch

    def _do(self, item: WorkItem) -> None:
        run = self._running()
        run.checkpoints.clear()
        started = time.perf_counter()
        shard = self.distill(item)
        earlier = sum(checkpoint.earlier for checkpoint in run.checkpoints.values())
        self._write(item, shard, earlier + time.perf_counter() - started)
        run.clear(item)

    def _do_jointly(self) -> None:
        run = self._running()
        run.ranks = RankGroup(self.trainer.global_rank, self.trainer.world_size)
        run.joint = None
        items = self.work_items(self.data)
        mine = [items[number] for number in run.ranks.share(len(items))]
        checkpoint = self.joint_checkpoint()  # its clock starts here
        shards = self.distill_jointly(mine)
        for item, shard, seconds in zip(mine, shards, checkpoint.seconds, strict=True):
            self._write(item, shard, seconds)
        run.ranks.barrier()  # as long as one shard is missing, all items are done again from their checkpoints
        for item in mine:
            run.clear(item)
        run.ranks = RankGroup()

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
        pending = []
        for item in self.work_items(self.data):
            if self._path(item).exists():
                Shard.load(self._path(item))  # raises where it is corrupt
            else:
                pending.append(item)
        return pending

    def _clear_checkpoints(self) -> None:
        """Remove what a kill left between the writing of a shard and the removal of its checkpoint."""
        for item in self.work_items(self.data):
            self._running().clear(item)
