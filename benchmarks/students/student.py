"""Students: the architectures that are trained on a distilled set and on nothing else."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ddoq.bounds import check_finite, check_number

if TYPE_CHECKING:  # commands that build no network start faster without torch
    import torch
    from torch import nn

    from benchmarks.students.plan import Plan
    from ddoq.costs.workload import Sizes, Stage


class InputSizes(Protocol):
    """What a network must know of a dataset: one that is set up says it, and so do bare sizes."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Channel means to subtract."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Channel standard deviations to divide by."""


@dataclass
class Student:
    """An architecture with its options.

    Attributes:
        arch: ``convnet3``, ``convnet3-w64``, ``resnetap10``, any name that timm knows, or ``torchvision/<name>``, as most
            papers build their students.
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
        if self.lr is not None:
            check_number(f"Student {self.arch!r}: lr", self.lr, above=0)
        check_finite(f"Student {self.arch!r}: kwargs", self.kwargs)

    @property
    def label(self) -> str:
        """What results and tables call it."""
        if self.name is not None:
            return self.name
        options = {"stem": self.stem, "lr": self.lr, **dict(sorted(self.kwargs.items()))}
        listed = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
        return f"{self.arch}[{listed}]" if listed else self.arch

    def build(self, data: InputSizes, *, normalize: bool = True) -> "nn.Module":
        """Build the untrained network for a dataset; weights come from torch's global generator.

        Args:
            data: The dataset, set up, or its sizes.
            normalize: Whether it normalises images itself; not where a set brings a transform of its own.

        Returns:
            A network from images in [0, 1] (or in the space of the transform), float ``(n, 3, h, w)``, to logits
            ``(n, num_classes)``.
        """
        from torch import nn

        from ddoq.networks import Normalize, build_network

        network = build_network(
            self.arch, data.num_classes, data.image_size, stem=self.stem, **self.kwargs
        )
        return nn.Sequential(Normalize(data.mean, data.std), network) if normalize else network

    def workload(
        self,
        sizes: "Sizes",
        plan: "Plan",
        *,
        images: int,
        seeds: int,
        tests: int,
        moments: int,
        kept: int,
        device: "torch.device | None" = None,
    ) -> "list[Stage]":
        """Say what its trainings and tests will take.

        Args:
            sizes: Of the dataset.
            plan: What the recipe comes to.
            images: Images of the distilled set.
            seeds: Trainings.
            tests: Tests in the course of a training.
            moments: Tensors that the optimiser keeps for each parameter.
            kept: Further bytes on the device.
            device: Where the network is put, if it shall be run; None keeps it without values.

        Returns:
            The stages.
        """
        from ddoq.costs.flops import filled, on_meta
        from ddoq.costs.stages import forward_stage, training_stage

        network = on_meta(self.build(sizes))
        if device is not None:
            network = filled(network, device)
        times = "1 seed" if seeds == 1 else f"{seeds} seeds"
        training = training_stage(
            f"train {self.label}",
            self.arch,
            network,
            sizes,
            seeds * plan.epochs * images,
            plan.batch_size,
            moments=moments,
            kept=kept,
            note=f"{plan.epochs} epochs, {times}",
        )
        tested, note = seeds * tests * sizes.test_images, f"{tests} tests, {times}"
        test = forward_stage(f"test {self.label}", self.arch, network, sizes, tested, note=note)
        return [training, test]
