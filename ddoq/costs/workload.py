"""What a piece of work consists of: its stages, with network passes, operations, files and memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from torch import nn

from ddoq.costs.prior_networks import PriorNetworks
from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule

# Limit of Lloyd's iterations in ddoq.quantization.lloyd; most classes converge in tens.
MAX_ITERATIONS = 300


@dataclass(frozen=True)
class Sizes:
    """The sizes of a dataset, which are all that planning needs of it.

    Attributes:
        num_classes: Number of classes.
        train_images: Training images.
        test_images: Test images.
        image_size: Side in pixels.
        largest_class: Training images of the largest class.
        mean: Channel means that networks subtract.
        std: Channel standard deviations that networks divide by.
    """

    num_classes: int
    train_images: int
    test_images: int
    image_size: int
    largest_class: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def of(cls, data: ImageDataModule) -> Self:
        """Measure a dataset that is set up."""
        return cls(
            data.num_classes,
            len(data.train),
            len(data.test),
            data.image_size,
            int(data.train.labels.bincount().max()),
            data.mean,
            data.std,
        )


@dataclass(frozen=True)
class Parts:
    """The networks that a method works with, without values.

    Attributes:
        prior: None where there is none, or one that cannot be taken apart.
        teacher: From normalised images to logits.
    """

    prior: PriorNetworks | None = None
    teacher: nn.Module | None = None


@dataclass(frozen=True)
class Stage:
    """One kind of work of a run.

    Attributes:
        name: What is done, e.g. ``encode``.
        network: What does it, e.g. ``VAE encoder``; empty where no network is run.
        passes: Inputs that go through the network.
        flops: Floating-point operations of all passes, backward ones included; None where unknown.
        files: Bytes that stay on disk, by what they hold.
        memory: Estimate of the peak in bytes on the device: weights, gradients and optimiser, live activations of a batch, and
            what the stage keeps there; None where unknown. Workspaces of kernels and fragmentation come on top.
        batch: Inputs of a pass together.
        at_most: Whether ``flops`` is a bound, because the work ends when it has converged.
        note: What the reader should know.
        probe: Runs one batch of the stage, for a measurement; its networks decide the device. None where there is none.
    """

    name: str
    network: str
    passes: int
    flops: int | None
    files: Mapping[str, int] = field(default_factory=dict)
    memory: int | None = None
    batch: int = 1
    at_most: bool = False
    note: str = ""
    probe: Callable[[int], Any] | None = None

    @classmethod
    def unknown(cls, name: str, note: str, files: Mapping[str, int] | None = None) -> Self:
        """Stand for work of which nothing is known, and say why."""
        return cls(name, "unknown", 0, None, files or {}, note=note)


def network_flops(stages: Sequence[Stage] | None) -> int | None:
    """Add up the operations of all networks of a piece of work; None where any is unknown.

    Example:
        >>> network_flops([Stage("encode", "VAE encoder", 2, 10), Stage("quantise", "", 0, None)])
        10
    """
    if stages is None or any(stage.passes and stage.flops is None for stage in stages):
        return None
    return sum(stage.flops or 0 for stage in stages if stage.passes)


def assignment_flops(points: int, k: int, dimensions: int, quantizer: Mapping[str, Any]) -> int:
    """Bound what the quantiser computes: one product of points and centroids an iteration.

    Args:
        points: Of all classes.
        k: Centroids a class.
        dimensions: Of a point.
        quantizer: The fields of :class:`ddoq.latents.quantization.Quantizer`.

    Returns:
        Floating-point operations; for methods that run until they converge, those of the most iterations.

    Example:
        >>> assignment_flops(100, 5, 16, {"method": "clvq", "passes": 1, "restarts": 1})  # one pass, one assignment
        32000
    """
    assignments = {"lloyd": MAX_ITERATIONS, "medoid": MAX_ITERATIONS, "random": 1}
    rounds = assignments.get(quantizer["method"], int(quantizer["passes"]) + 1)
    return 2 * points * k * dimensions * rounds * int(quantizer["restarts"])


def image_bytes(sizes: Sizes, ipc: int) -> int:
    """Count the bytes of a distilled set's raw uint8 images.

    Example:
        >>> image_bytes(Sizes(1000, 1281167, 50000, 224, 1300), 10)
        1505280000
    """
    return sizes.num_classes * ipc * 3 * sizes.image_size**2
