"""Work items, and the shard that each of them makes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, is_finite
from ddoq.labels.targets import Targets
from ddoq.storage.files import load_tensors, save_tensors, under_prefix

_EXTRA, _PART = "extra.", "part."  # how the names of their tensors begin


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
    """What one work item makes: rows of a distilled set, see :class:`ddoq.distillation.distilled_set.DistilledSet`.

    Attributes:
        images: uint8 pixels ``(n, 3, h, w)``, or float32 ``(n, ...)``.
        labels: int64 ``(n,)``; None where targets alone say what to learn.
        extras: Further tensors that the method wants to keep, e.g. centroids and counts; they do not enter the set.
        info: Further facts for the record, as JSON values, e.g. the distortion.
        targets: What to answer to each image, where that is no class index alone.
        stages: int64 ``(n,)``: when an image joins a training in stages.
        parts: Further tensors that the set's decoder needs, each with n rows.
    """

    images: Tensor
    labels: Tensor | None
    extras: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    targets: Targets | None = None
    stages: Tensor | None = None
    parts: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the stored images."""
        return len(self.images)

    def holds(self) -> frozenset[str]:
        """Name the tensors that become part of a set."""
        optional = {"labels": self.labels, "targets": self.targets, "stages": self.stages}
        present = {name for name, value in optional.items() if value is not None}
        return frozenset({"images", *present, *(f"{_PART}{name}" for name in self.parts)})

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Write it atomically, with a record (JSON values) that travels along.

        Raises:
            NotFiniteError: If images, targets or parts are NaN or infinite.
        """
        tensors = {
            "images": self.images,
            "labels": self.labels,
            "targets": None if self.targets is None else self.targets.values,
            "stages": self.stages,
        }
        tensors |= {f"{_PART}{name}": tensor for name, tensor in self.parts.items()}
        for name, tensor in tensors.items():
            if tensor is not None and not is_finite(tensor):
                raise NotFiniteError(f"The {name} that it made are not finite (NaN or infinite).")
        tensors |= {f"{_EXTRA}{name}": tensor for name, tensor in self.extras.items()}
        kind = {} if self.targets is None else {"target_kind": self.targets.kind}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        save_tensors(path, present, {"info": self.info, "record": record, **kind})

    @classmethod
    def load(cls, path: Path) -> tuple["Shard", dict[str, Any]]:
        """Read a shard and its record; a corrupt file raises ``UserError``."""
        tensors, metadata = load_tensors(path)
        targets = tensors.get("targets")
        shard = cls(
            tensors["images"],
            tensors.get("labels"),
            under_prefix(tensors, _EXTRA),
            metadata["info"],
            None if targets is None else Targets.read(targets, metadata.get("target_kind")),
            tensors.get("stages"),
            under_prefix(tensors, _PART),
        )
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
    name, size = smallest_class(data)
    if ipc > size:
        raise UserError(
            f"ipc is {ipc}, but class '{name}' of {data.name} has only {size} training images. "
            "Lower model.init_args.ipc or raise the limit."
        )


def smallest_class(data: ImageDataModule) -> tuple[str, int]:
    """Return name and training images of the smallest class of a dataset that is set up."""
    sizes = torch.bincount(data.train.labels, minlength=data.num_classes)
    smallest = int(sizes.argmin())
    return data.classes[smallest].name, int(sizes[smallest])
