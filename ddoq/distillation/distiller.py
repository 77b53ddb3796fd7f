"""What every method shares: seeding, sharding over ranks, resuming, timing, atomic shards and their merging."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ddoq.costs.workload import Parts, Sizes, Stage, network_flops
from ddoq.data import ImageDataModule
from ddoq.data.sampler import ExactDistributedSampler
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.merging import merge_shards
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.priors.base import Prior
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.provenance import peak_memory, provenance
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers import Teacher

# Raised whenever a change of code changes what shards hold, so that old ones are not reused.
SHARD_FORMAT = 1


class Distiller(L.LightningModule, ABC):
    """Turns a labelled dataset into a distilled set under a budget of images per class.

    A method sets ``method``, lists its work items and makes the shard of one. It runs through
    ``Trainer.predict`` with ``inference_mode=False``: ``Trainer.fit`` under DDP refuses a module without
    trainable parameters, while ``predict`` shards items exactly and wraps nothing.

    Args:
        ipc: Images per class.
        seed: Decides every random draw; the same seed gives the same bits on any number of ranks.
    """

    method: ClassVar[str]

    def __init__(self, ipc: int, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.ipc = ipc
        self.seed = seed
        self.data: ImageDataModule
        self.prior: Prior | None = None
        self.teacher: Teacher | None = None
        self._root: Path | None = None
        self._key = ""
        self._context: dict[str, Any] = {}

    @property
    def needs_prior(self) -> bool:
        """Whether :meth:`attach` must be given a prior."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether :meth:`attach` must be given a teacher."""
        return False

    @abstractmethod
    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """List what can be done independently, in a fixed order."""

    @abstractmethod
    def distill(self, item: WorkItem) -> Shard:
        """Do one work item. Every random draw comes from a generator keyed by seed and item."""

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh the images of a shard, float32 ``(n,)``, mean 1 within a class; ones unless overridden."""
        return torch.ones(len(shard.labels))

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings that cannot work on this dataset, before anything runs.

        Raises:
            UserError: Naming the setting and the mend.
        """
        if self.ipc < 1:
            raise UserError(f"ipc must be at least 1, not {self.ipc}.")

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Fold the ``info`` of all shards into numbers for the results (JSON values)."""
        return {}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Say what distilling a dataset will take, from sizes and networks without values alone.

        ``ddoq-bench plan`` shows it, and the operations of its networks are recorded with the set.

        Args:
            sizes: Of the dataset.
            parts: The networks that the method works with.

        Returns:
            The stages in their order; None where the method does not say.
        """
        return None

    def facts(self) -> dict[str, Any]:
        """Return further facts about the images for the set's record (JSON values), e.g. the codec they went through."""
        return {}

    def reused_seconds(self, info: dict[str, Any]) -> float:
        """Return the seconds of work behind a shard that was done earlier and kept, from its ``info``.

        They count in the set's cost, so that a method does not look cheap because another one ran before it.
        """
        return 0.0

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Give the distiller what it works on.

        Args:
            data: The dataset; it is set up here.
            prior: Encoder, decoder and generator, for methods that need one.
            teacher: Network trained on the real data, for methods that need one.

        Raises:
            UserError: If a needed part is missing or does not fit the dataset.
        """
        data.setup()
        self.check(data)
        if self.needs_prior and prior is None:
            raise UserError(
                f"{self.method} needs a prior: give the key `prior` in the configuration."
            )
        if self.needs_teacher and teacher is None:
            raise UserError(
                f"{self.method} needs a teacher: give the key `teacher` in the configuration."
            )
        self.data = data
        self.prior = prior if self.needs_prior else None
        self.teacher = teacher if self.needs_teacher else None
        for module in (self.prior, self.teacher):
            if module is not None:
                module.eval().requires_grad_(False)

    def settings(self) -> dict[str, Any]:
        """Return the method's own arguments, whole, as they were given or defaulted."""
        return {k: v for k, v in self.hparams.items() if not k.startswith("_")}

    def shard_settings(self) -> dict[str, Any]:
        """Return what decides the contents of shards; methods may share shards by returning equal values."""
        return {"method": self.method, **self.settings()}

    def formats(self) -> dict[str, Any]:
        """Return what else decides the contents of shards and set, yet is no choice: it only enters their keys."""
        return {}

    def run(self, trainer: L.Trainer, root: Path) -> tuple[DistilledSet, Path]:
        """Distil, or reuse what is there: only missing shards are made.

        Args:
            trainer: A trainer with ``inference_mode=False``; its ranks share the work items.
            root: The cache folder.

        Returns:
            The distilled set and its folder.

        Raises:
            UserError: If a stored shard is corrupt.
        """
        self._context = {
            "format": SHARD_FORMAT,
            "data": self.data.fingerprint,
            "prior": self.prior.fingerprint if self.prior else None,
            "teacher": self.teacher.fingerprint if self.teacher else None,
            "precision": trainer.precision,
        }
        keyed = {**self._context, **self.formats()}
        key = hash_config({"settings": self.shard_settings(), **keyed})
        self._root = root
        self._key = key
        whole = {"method": self.method, "settings": self.settings(), **keyed}
        name = f"{self.method}-ipc{self.ipc}-{hash_config(whole)}"
        target = RunFolder(root).distilled(name).path
        if trainer.world_size > 1 or (not DistilledSet.exists(target) and self._pending()):
            # With several ranks always: the other processes start in here and must not miss it.
            trainer.predict(self, return_predictions=False)
        trainer.strategy.barrier("shards written")  # of every rank, before one of them merges
        if trainer.is_global_zero and not DistilledSet.exists(target):
            self._merge().save(target)
        trainer.strategy.barrier("distilled set written")
        return DistilledSet.load(target), target

    def _path(self, item: WorkItem) -> Path:
        assert self._root is not None
        return RunFolder(self._root).shard(self._key, item.name)

    def _pending(self) -> list[WorkItem]:
        pending = []
        for item in self.work_items(self.data):
            if self._path(item).exists():
                Shard.load(self._path(item))  # raises where it is corrupt
            else:
                pending.append(item)
        return pending

    def predict_dataloader(self) -> DataLoader[int]:
        """Return the numbers of this rank's missing items.

        Rank 0 looks and tells the others, so that ranks cannot disagree about the file system. Entries of
        -1 pad the list where there are fewer items than ranks, since a rank without a batch would stop all
        others. Numbers, not items: Lightning moves what it knows to the device, and items are frozen.
        """
        pending: list[int] = self.trainer.strategy.broadcast(
            [item.index for item in self._pending()] if self.trainer.is_global_zero else []
        )
        pending += [-1] * (self.trainer.world_size - len(pending))
        ranks = {"num_replicas": self.trainer.world_size, "rank": self.trainer.global_rank}
        return DataLoader(
            pending,  # type: ignore[arg-type]
            batch_size=None,
            sampler=ExactDistributedSampler(pending, **ranks),
            collate_fn=lambda number: number,
        )

    def predict_step(self, batch: int, batch_idx: int) -> int:
        """Do one work item, write its shard, and return the item's number."""
        if batch < 0:
            return batch
        item = self.work_items(self.data)[batch]
        started = time.perf_counter()
        shard = self.distill(item)
        record = {
            "seconds": time.perf_counter() - started,
            "peak_memory": peak_memory(),
            "provenance": provenance(),
        }
        shard.save(self._path(item), record)
        return batch

    def _merge(self) -> DistilledSet:
        items = self.work_items(self.data)
        shards, records = zip(*(Shard.load(self._path(item)) for item in items), strict=True)
        seconds = math.fsum(
            record["seconds"] + self.reused_seconds(shard.info)
            for shard, record in zip(shards, records, strict=True)
        )
        # Of all that is behind the images, even where latents or shards were reused.
        stages = self.workload(Sizes.of(self.data), Parts.of(self.prior, self.teacher))
        metadata = {
            "method": self.method,
            "ipc": self.ipc,
            "seed": self.seed,
            "settings": self.settings(),
            "context": self._context,
            "data": self.data.describe(),
            "class_keys": self.data.classes.keys,
            **self.facts(),
            "statistics": self.summarize([shard.info for shard in shards]),
            "cost": {
                "seconds": seconds,
                "work_items": len(items),
                "flops": network_flops(stages),
            },
            "provenance": records[0]["provenance"],
        }
        weights = [self.weigh(shard) for shard in shards]
        return merge_shards(shards, weights, self.data.classes.names, metadata)
