"""Real images chosen at random."""

import torch

from baselines.selection import keep
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.seeding import generator_for


class RandomSelection(Distiller):
    """Keep ``ipc`` training images of each class, drawn without replacement.

    With one seed the choice for a smaller budget is contained in that for a larger one, in the same order.

    Args:
        ipc: Images per class.
        seed: Decides the choice.
    """

    method = "random"

    @property
    def sees_normalized(self) -> bool:
        """No: nothing is seen."""
        return False

    def check(self, data: ImageDataModule) -> None:
        """Refuse a budget above the size of the smallest class."""
        super().check(data)
        check_budget(data, self.ipc)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Copy images; no network is run."""
        return [Stage("select", "", 0, 0, {"images": image_bytes(sizes, self.ipc)})]

    def distill(self, item: WorkItem) -> Shard:
        """Draw the images of one class."""
        (label,) = item.classes
        positions = self.data.train.of_class(label)
        order = torch.randperm(len(positions), generator=generator_for(self.seed, "random", label))
        return keep(self.data, label, positions[order[: self.ipc]], {}, {"points": len(positions)})
