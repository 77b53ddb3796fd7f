"""What a piece of work consists of: its stages, with network passes, operations, files and memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn

from ddoq.costs.flops import count_flops, forward_flops, input_gradient_flops, on_meta
from ddoq.costs.memory import peak_bytes, weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD, ImageDataModule
from ddoq.priors.base import Prior
from ddoq.teachers import Teacher

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

    @classmethod
    def of(cls, prior: Prior | None, teacher: Teacher | None) -> Self:
        """Take what a method was given."""
        return cls(PriorNetworks.of(prior), None if teacher is None else teacher.network)


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


def network_flops(stages: Sequence[Stage] | None) -> int | None:
    """Add up the operations of all networks of a piece of work; None where any is unknown.

    Example:
        >>> network_flops([Stage("encode", "VAE encoder", 2, 10), Stage("quantise", "", 0, None)])
        10
    """
    if stages is None:
        return None
    total = 0
    for stage in stages:
        if stage.passes and stage.flops is None:
            return None
        total += stage.flops or 0 if stage.passes else 0
    return total


def prior_stage(
    name: str,
    network: str,
    prior: PriorNetworks,
    run: str,
    passes: int,
    batch: int,
    *,
    kept: int = 0,
    files: Mapping[str, int] | None = None,
    note: str = "",
) -> Stage:
    """Describe passes through one network of a prior.

    Args:
        name: Of the stage.
        network: What does it.
        prior: Its networks.
        run: The method of :class:`ddoq.costs.prior_networks.PriorNetworks` that runs one batch.
        passes: How many inputs.
        batch: How many together.
        kept: Further bytes that the stage keeps on the device.
        files: Bytes that stay on disk.
        note: What the reader should know.
    """
    ghost = prior.on_meta()
    batch = max(1, min(batch, passes))
    weights = sum(weight_bytes(part) for part in (prior.vae, prior.denoiser, prior.text_encoder))
    return Stage(
        name,
        network,
        passes,
        passes * count_flops(lambda: getattr(ghost, run)(1)),
        files or {},
        weights + kept + peak_bytes(lambda: getattr(ghost, run)(batch)),
        batch,
        note=note,
        probe=getattr(prior, run),
    )


def encoding_stages(
    sizes: Sizes, prior: PriorNetworks, batch: int, *, keep: bool = True
) -> list[Stage]:
    """Describe the encoding of a whole training split.

    Args:
        sizes: Of the dataset.
        prior: Its networks.
        batch: Images together.
        keep: Whether the latents stay on disk, as fp16.
    """
    files = {"latents": 2 * sizes.train_images * math.prod(prior.latent_shape)} if keep else {}
    return [
        prior_stage(
            "encode", "VAE encoder", prior, "encode", sizes.train_images, batch, files=files
        )
    ]


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


def gradient_stage(
    name: str,
    teacher: nn.Module,
    sizes: Sizes,
    passes: int,
    batch: int,
    *,
    files: Mapping[str, int] | None = None,
    note: str = "",
) -> Stage:
    """Describe iterations in which a frozen network's gradients change images.

    Args:
        name: Of the stage.
        teacher: The network, from normalised images.
        sizes: Of the dataset.
        passes: Images times iterations.
        batch: Images together.
        files: Bytes that stay on disk.
        note: What the reader should know.
    """
    shape = (3, sizes.image_size, sizes.image_size)

    def probe(count: int, network: nn.Module = teacher) -> None:
        pixels = torch.zeros(count, *shape, device=device_of(network)).requires_grad_()
        torch.autograd.grad(network(pixels).float().sum(), pixels)

    ghost = on_meta(teacher).eval().requires_grad_(False)
    image = 4 * math.prod(shape)  # float32; with Adam's two moments and the gradient
    return Stage(
        name,
        "teacher",
        passes,
        passes * input_gradient_flops(teacher, shape),
        files or {},
        weight_bytes(teacher) + 4 * batch * image + peak_bytes(lambda: probe(batch, ghost)),
        batch,
        note=note,
        probe=probe,
    )


def judging_stage(teacher: nn.Module, sizes: Sizes, images: int) -> Stage:
    """Describe the teacher's look at images that were made.

    Args:
        teacher: The network, from normalised images.
        sizes: Of the dataset.
        images: How many.
    """
    return forward_stage("judge", "teacher", teacher, sizes, images, 256)


def forward_stage(
    name: str,
    what: str,
    network: nn.Module,
    sizes: Sizes,
    images: int,
    batch: int,
    *,
    kept: int = 0,
    files: Mapping[str, int] | None = None,
    note: str = "",
) -> Stage:
    """Describe forward passes of a classifier without gradients.

    Args:
        name: Of the stage.
        what: What the network is called.
        network: From images to logits.
        sizes: Of the dataset.
        images: How many.
        batch: How many together.
        kept: Further bytes on the device.
        files: Bytes that stay on disk.
        note: What the reader should know.
    """
    shape = (3, sizes.image_size, sizes.image_size)
    batch = max(1, min(batch, images))

    def probe(count: int, copied: nn.Module = network) -> None:
        with torch.no_grad():
            copied.eval()(torch.zeros(count, *shape, device=device_of(copied)))

    ghost = on_meta(network)
    return Stage(
        name,
        what,
        images,
        images * forward_flops(network, shape),
        files or {},
        weight_bytes(network) + kept + peak_bytes(lambda: probe(batch, ghost)),
        batch,
        note=note,
        probe=probe,
    )


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is; the CPU where it has no values."""
    found = next(iter([*network.parameters(), *network.buffers()]), None)
    return torch.device("cpu") if found is None else found.device
