"""Work items, and the shard that each of them makes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.errors import UserError
from ddoq.storage.files import load_tensors, save_tensors


@dataclass(frozen=True)
class WorkItem:
    """What a distiller can do independently of the rest.

    Attributes:
        index: Its position in the list of items; the merge keeps this order within a class.
        name: The stem of its shard's file name, e.g. ``class-0003``.
        classes: The labels it makes images of.
        block: Which images of these classes it makes, where an item is not a whole class.
    """

    index: int
    name: str
    classes: tuple[int, ...]
    block: int = 0


@dataclass
class Shard:
    """What one work item makes.

    Attributes:
        images: uint8 ``(n, 3, h, w)``.
        labels: int64 ``(n,)``.
        extras: Further tensors that the method wants to keep, e.g. centroids and counts.
        info: Further facts for the record, as JSON values, e.g. the distortion.
    """

    images: Tensor
    labels: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Write it atomically, with a record (JSON values) that travels along."""
        tensors = {"images": self.images, "labels": self.labels}
        tensors |= {f"extra.{name}": tensor for name, tensor in self.extras.items()}
        save_tensors(path, tensors, {"info": self.info, "record": record})

    @classmethod
    def load(cls, path: Path) -> tuple["Shard", dict[str, Any]]:
        """Read a shard and its record; a corrupt file raises ``UserError``."""
        tensors, metadata = load_tensors(path)
        extras = {
            name.removeprefix("extra."): tensor
            for name, tensor in tensors.items()
            if name.startswith("extra.")
        }
        shard = cls(tensors["images"], tensors["labels"], extras, metadata["info"])
        return shard, metadata["record"]


def class_items(num_classes: int) -> list[WorkItem]:
    """List one work item per class.

    Example:
        >>> [item.name for item in class_items(2)]
        ['class-0000', 'class-0001']
    """
    return [WorkItem(label, f"class-{label:04d}", (label,)) for label in range(num_classes)]


def check_budget(data: ImageDataModule, ipc: int) -> None:
    """Refuse a budget that some class cannot fill.

    Args:
        data: The dataset, set up.
        ipc: Images per class that a method takes from, or quantises, each class.

    Raises:
        UserError: Naming the smallest class.
    """
    sizes = torch.bincount(data.train.labels, minlength=data.num_classes)
    smallest = int(sizes.argmin())
    if ipc > int(sizes[smallest]):
        raise UserError(
            f"ipc is {ipc}, but class '{data.classes[smallest].name}' of {data.name} has only "
            f"{int(sizes[smallest])} training images. Lower model.init_args.ipc or raise the limit."
        )
