"""What methods share that keep real images."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ddoq.costs.stages import forward_stage
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.networks.features import captured_features


def keep(
    data: ImageDataModule,
    label: int,
    indices: Tensor,
    extras: dict[str, Tensor],
    info: dict[str, Any],
) -> Shard:
    """Make the shard of a class from real images.

    Args:
        data: The dataset.
        label: The class.
        indices: int64 ``(k,)``, positions in the training split.
        extras: Further tensors to keep.
        info: Further facts for the record.

    Returns:
        A shard whose ``indices``, as a tensor and as numbers in the record, say which images it holds.
    """
    positions: list[int] = indices.tolist()
    return Shard(
        data.train.load(positions),
        torch.full((len(positions),), label),
        {"indices": indices, **extras},
        {"indices": positions, **info},
    )


class FeatureSelection(Distiller):
    """Keeps real images by their features: what the last layer of the teacher sees of them.

    Args:
        ipc: Images per class.
        seed: Nothing is drawn; it only tells sets apart that repeat one another.
        batch_size: Images a batch for the teacher.
    """

    def __init__(self, ipc: int, seed: int = 0, batch_size: int = 256) -> None:
        super().__init__(ipc, seed)
        self.batch_size = batch_size

    @abstractmethod
    def choose(self, features: Tensor) -> Tensor:
        """Select ``ipc`` rows of the features of a class, float32 ``(n, d)``: int64 ``(ipc,)``, in their order."""

    @property
    def sees_normalized(self) -> bool:
        """No: the teacher normalises by numbers of its own."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """It makes the features."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse empty batches, and budgets above the smallest class."""
        super().check(data)
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {self.batch_size}.")
        check_budget(data, self.ipc)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def shard_settings(self) -> dict[str, Any]:
        """Leave out the seed, which decides nothing."""
        return {k: v for k, v in super().shard_settings().items() if k != "seed"}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Send every training image through the teacher."""
        if parts.teacher is None:
            return None
        files = {"images": image_bytes(sizes, self.ipc)}
        images, batch = sizes.train_images, self.batch_size
        return [
            forward_stage("features", "teacher", parts.teacher, sizes, images, batch, files=files)
        ]

    @torch.no_grad()
    def distill(self, item: WorkItem) -> Shard:
        """Compute the features of one class and keep the images that they select."""
        (label,) = item.classes
        positions = self.data.train.of_class(label)
        chosen = self.choose(self._features(positions)).cpu()
        return keep(self.data, label, positions[chosen], {}, {"points": len(positions)})

    def _features(self, positions: Tensor) -> Tensor:
        """Return what the teacher's last layer sees of training images, float32 ``(n, d)``, on the device."""
        assert self.teacher is not None
        with captured_features(self.teacher.network) as features:
            for batch in positions.split(self.batch_size):
                self.teacher(to_float(self.data.train.load(batch.tolist()).to(self.device)))
        return torch.cat(features).float()
