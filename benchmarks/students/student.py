"""Students: the architectures that are trained on a distilled set and on nothing else."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddoq.errors import UserError

if TYPE_CHECKING:  # commands that build no network start faster without torch
    from torch import nn

    from ddoq.data.base import ImageDataModule


@dataclass
class Student:
    """An architecture with its options.

    Attributes:
        arch: ``convnet3``, ``convnet3-w64``, ``resnetap10`` or any name that timm knows.
        name: What tables call it; made of the other fields where omitted.
        kwargs: Further arguments of the network's constructor.
        stem: First layers for small images, as :func:`ddoq.networks.build_network` takes it.
        lr: Learning rate at the start, instead of the recipe's.

    Example:
        >>> Student("resnet18").label, Student("vit_tiny_patch16_224", kwargs={"patch_size": 4}).label
        ('resnet18', 'vit_tiny_patch16_224[patch_size=4]')
    """

    arch: str
    name: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    stem: str | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        """Refuse a learning rate that cannot train."""
        if self.lr is not None and self.lr <= 0:
            raise UserError(f"Student {self.arch!r}: lr must be above 0, not {self.lr}.")

    @property
    def label(self) -> str:
        """What results and tables call it."""
        if self.name is not None:
            return self.name
        options = {"stem": self.stem, "lr": self.lr, **dict(sorted(self.kwargs.items()))}
        told = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
        return f"{self.arch}[{told}]" if told else self.arch

    def build(self, data: "ImageDataModule") -> "nn.Module":
        """Build the untrained network for a dataset; weights come from torch's global generator.

        Args:
            data: The dataset, set up: its classes, image size, mean and standard deviation count.

        Returns:
            A network from images in [0, 1], float ``(n, 3, h, w)``, to logits ``(n, num_classes)``.
        """
        from torch import nn

        from ddoq.networks import Normalize, build_network

        network = build_network(
            self.arch, data.num_classes, data.image_size, stem=self.stem, **self.kwargs
        )
        return nn.Sequential(Normalize(data.mean, data.std), network)
