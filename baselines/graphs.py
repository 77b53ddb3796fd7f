"""What the methods for graphs, and those for the nodes of one, share."""

from typing import Any, ClassVar, TypeVar

from ddoq.costs.workload import Parts, Stage
from ddoq.data import LabelledData
from ddoq.decoding.form import SetForm
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import WorkItem
from ddoq.errors import UserError
from ddoq.graphs.base import GraphData
from ddoq.graphs.data import GraphDataModule

AnyGraphs = TypeVar("AnyGraphs", bound=GraphData)


class GraphMethod(Distiller[AnyGraphs]):
    """A method for graphs, whose work items are the classes, or for nodes, which make one graph: ``works_on`` says which.

    Args:
        ipc: Graphs, or nodes, per class.
        seed: Decides every random draw.
    """

    works_on: ClassVar[type[LabelledData]] = GraphDataModule  # type: ignore[type-abstract]

    @property
    def sees_normalized(self) -> bool:
        """No: graphs have no mean or deviation."""
        return False

    def check(self, data: AnyGraphs) -> None:
        """Refuse a budget that some class cannot fill."""
        super().check(data)
        sizes = [len(data.train.of_class(label)) for label in range(data.num_classes)]
        smallest = min(range(data.num_classes), key=sizes.__getitem__)
        if self.ipc > sizes[smallest]:
            raise UserError(
                f"ipc is {self.ipc}, but class '{data.classes[smallest].name}' of {data.name} has only {sizes[smallest]} "
                f"training {data.holds}: lower model.init_args.ipc."
            )

    def work_items(self, data: AnyGraphs) -> list[WorkItem]:
        """One item per class of graphs; one for the nodes of all classes."""
        return data.work_items()

    def form(self, infos: Any) -> SetForm:
        """Say that what is stored are graphs, or nodes."""
        return self.data.form

    def _own_workload(self, parts: Parts) -> list[Stage] | None:
        """Say nothing: workloads are counted for images alone."""
        return None
