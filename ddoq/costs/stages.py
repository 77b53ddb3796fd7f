"""Stages of networks: how passes through one are described.

The functions share their arguments: ``name`` of the stage, ``what`` does it, ``sizes`` of the dataset, ``passes`` or
``images`` in all, ``batch`` of them together, further bytes ``kept`` on the device, bytes of ``files`` that stay on disk,
and a ``note`` for the reader. Networks may be without values, and are left as they are.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack

import torch
from torch import nn

from ddoq.costs.flops import (
    count_flops,
    forward_flops,
    input_gradient_flops,
    on_meta,
    training_flops,
)
from ddoq.costs.memory import peak_bytes, weight_bytes
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.workload import Sizes, Stage

_TEST_BATCH = 256  # images of a test of a teacher or a student together

_Network = TypeVar("_Network", bound=nn.Module)


class Extras(TypedDict, total=False):
    """What any stage may have beside its passes; see the module."""

    kept: int
    files: Mapping[str, int]
    note: str


def network_stage(
    name: str,
    what: str,
    network: _Network,
    run: Callable[[_Network, int], Any],
    passes: int,
    batch: int,
    *,
    flops: int,
    copies: int = 1,
    kept: int = 0,
    files: Mapping[str, int] | None = None,
    note: str = "",
) -> Stage:
    """Describe passes through any network, of ``flops`` operations an input.

    ``run`` sends a number of blank inputs through the network or a copy of it; ``copies`` says how often tensors of the size
    of the weights are on the device, with an optimiser more than once.
    """
    ghost = on_meta(network)
    peak = peak_bytes(lambda: run(ghost, batch))
    memory = copies * weight_bytes(network) + kept + peak
    probe = partial(run, network)
    return Stage(
        name, what, passes, passes * flops, files or {}, memory, batch, note=note, probe=probe
    )


def prior_stage(
    name: str,
    what: str,
    prior: PriorNetworks,
    run: Callable[[PriorNetworks, int], None],
    passes: int,
    batch: int,
    **extras: Unpack[Extras],
) -> Stage:
    """Describe passes through one network of a prior; ``run`` is the method of it that runs one batch."""
    ghost = on_meta(prior)
    flops = count_flops(lambda: run(ghost, 1))
    batch = max(1, min(batch, passes))
    return network_stage(name, what, prior, run, passes, batch, flops=flops, **extras)


def encoding_stages(
    sizes: Sizes, prior: PriorNetworks, batch: int, *, keep: bool = True
) -> list[Stage]:
    """Describe the encoding of a whole training split; ``keep`` says whether latents stay on disk, as fp16."""
    images = sizes.train_images
    files = {"latents": 2 * images * math.prod(prior.latent_shape)} if keep else {}
    encode = PriorNetworks.encode
    return [prior_stage("encode", "VAE encoder", prior, encode, images, batch, files=files)]


def forward_stage(
    name: str,
    what: str,
    network: nn.Module,
    sizes: Sizes,
    images: int,
    batch: int = _TEST_BATCH,
    **extras: Unpack[Extras],
) -> Stage:
    """Describe forward passes of a classifier, from images to logits, without gradients."""
    shape = (3, sizes.image_size, sizes.image_size)

    def run(copied: nn.Module, count: int) -> None:
        with torch.no_grad():
            copied.eval()(torch.zeros(count, *shape, device=device_of(copied)))

    batch, flops = max(1, min(batch, images)), forward_flops(network, shape)
    return network_stage(name, what, network, run, images, batch, flops=flops, **extras)


def judging_stage(teacher: nn.Module, sizes: Sizes, images: int) -> Stage:
    """Describe the teacher's look at distilled images."""
    return forward_stage("judge", "teacher", teacher, sizes, images)


def training_stage(
    name: str,
    what: str,
    network: nn.Module,
    sizes: Sizes,
    passes: int,
    batch: int,
    *,
    moments: int,
    **extras: Unpack[Extras],
) -> Stage:
    """Describe the training of a classifier by an optimiser that keeps so many ``moments`` of each parameter."""
    shape = (3, sizes.image_size, sizes.image_size)

    def run(copied: nn.Module, count: int) -> None:
        copied.train().zero_grad()
        copied(torch.zeros(count, *shape, device=device_of(copied))).float().sum().backward()

    extras = {"note": "forward and backward", **extras}
    flops, copies = training_flops(network, shape), 1 + moments
    return network_stage(
        name, what, network, run, passes, batch, flops=flops, copies=copies, **extras
    )


def gradient_stage(
    name: str,
    teacher: nn.Module,
    sizes: Sizes,
    passes: int,
    batch: int,
    **extras: Unpack[Extras],
) -> Stage:
    """Describe iterations in which a frozen network's gradients change images; a pass is an image's iteration."""
    shape = (3, sizes.image_size, sizes.image_size)

    def run(copied: nn.Module, count: int) -> None:
        copied.eval().requires_grad_(False)
        pixels = torch.zeros(count, *shape, device=device_of(copied)).requires_grad_()
        torch.autograd.grad(copied(pixels).float().sum(), pixels)

    # float32; with Adam's two moments and the gradient
    extras = {**extras, "kept": extras.get("kept", 0) + 4 * batch * 4 * math.prod(shape)}
    flops = input_gradient_flops(teacher, shape)
    return network_stage(name, "teacher", teacher, run, passes, batch, flops=flops, **extras)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is; the CPU where it has no values."""
    first = next(iter([*network.parameters(), *network.buffers()]), None)
    return torch.device("cpu") if first is None else first.device
