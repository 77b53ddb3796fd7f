"""What the methods for graphs share."""

from typing import Any

from ddoq.costs.workload import Parts, Stage
from ddoq.decoding.form import SetForm
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import WorkItem, class_items
from ddoq.errors import UserError
from ddoq.graphs.data import GraphDataModule
from ddoq.graphs.sets import FORM


class GraphMethod(Distiller[GraphDataModule]):
    """A method for graphs, whose work items are the classes.

    Args:
        ipc: Graphs per class.
        seed: Decides every random draw.
    """

    works_on = GraphDataModule

    @property
    def sees_normalized(self) -> bool:
        """No: graphs have no mean or deviation."""
        return False

    def check(self, data: GraphDataModule) -> None:
        """Refuse a budget that some class cannot fill."""
        super().check(data)
        sizes = [len(data.train.of_class(label)) for label in range(data.num_classes)]
        smallest = min(range(data.num_classes), key=sizes.__getitem__)
        if self.ipc > sizes[smallest]:
            raise UserError(
                f"ipc is {self.ipc}, but class '{data.classes[smallest].name}' of {data.name} has only {sizes[smallest]} "
                "training graphs: lower model.init_args.ipc."
            )

    def work_items(self, data: GraphDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def form(self, infos: Any) -> SetForm:
        """Say that what is stored are graphs."""
        return FORM

    def _own_workload(self, parts: Parts) -> list[Stage] | None:
        """Say nothing: workloads are counted for images alone."""
        return None
