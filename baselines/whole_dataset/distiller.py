"""All real images."""

from typing import Any

import torch

from baselines.selection import keep
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, class_items
from ddoq.priors.base import Prior
from ddoq.teachers import Teacher


class WholeDataset(Distiller):
    """Keep every training image, as it is, with weight 1: the ceiling under a recipe.

    There is no budget to set and nothing to draw. ``data.limit_per_class`` caps the images as it does for every method.
    The images per class of the set are those of the largest class, as for any set with classes of unequal sizes.
    """

    method = "full"

    def __init__(self) -> None:
        super().__init__(ipc=0)  # known once there is a dataset

    @property
    def sees_normalized(self) -> bool:
        """No: nothing is seen."""
        return False

    def settings(self) -> dict[str, Any]:
        """Return nothing: there is no choice to record."""
        return {}

    def check(self, data: ImageDataModule) -> None:
        """Accept any dataset."""

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take the size of the largest class as the budget."""
        self.ipc = int(torch.bincount(data.train.labels).max())
        super().attach(data, prior=prior, teacher=teacher)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def distill(self, item: WorkItem) -> Shard:
        """Keep the images of one class, in the order of the training split."""
        (label,) = item.classes
        positions = self.data.train.of_class(label)
        return keep(self.data, label, positions, {}, {"points": len(positions)})
