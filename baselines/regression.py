"""What methods share that learn images and targets by regression on the features of networks of a pool."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddoq.costs.flops import count_flops, on_meta
from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import device_of, network_stage
from ddoq.costs.workload import Sizes, Stage
from ddoq.optimisation.curve import LossCurve
from ddoq.optimisation.learned import Learned
from ddoq.optimisation.pools import ResetAtAge
from ddoq.optimisation.steps import StepLoop
from ddoq.storage.checkpoints import Checkpoint

# From a network, real images and their answers, distilled images and their targets to a scalar.
Gap = Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]


def regress(
    learned: Learned,
    pool: ResetAtAge,
    take: Callable[[int], None],
    *,
    steps: int,
    device: torch.device,
    checkpoint: Checkpoint | None,
    what: str,
    mend: str,
) -> list[float]:
    """Take all steps of images and targets, from where a killed process left them.

    Args:
        learned: What is learned; a step leaves its loss there.
        pool: The networks that features come from.
        take: Takes a step, given its number.
        steps: How many.
        device: Where losses are gathered.
        checkpoint: Where all that later steps depend on is kept; None keeps nothing.
        what: What to call it in lines of progress and errors.
        mend: A sentence on what to try where it diverges.

    Returns:
        Means of the loss over equal stretches of the steps.

    Raises:
        DivergedError: If a loss is not finite.
    """
    curve = LossCurve(steps, device)

    def restore(state: Mapping[str, Any]) -> None:
        learned.restore(state["learned"])
        pool.restore(state["pool"])
        curve.restore(state["curve"])

    loop = StepLoop(
        steps,
        state=lambda: {"learned": learned.state(), "pool": pool.state(), "curve": curve.state()},
        restore=restore,
        checkpoint=checkpoint,
        what=what,
        mend=mend,
    )
    for step in loop:
        take(step)
        curve.add(step, learned.loss)
        loop.loss = learned.loss
    return curve.means()


class Regression(NamedTuple):
    """The sizes of a regression.

    Attributes:
        steps: How many are taken.
        real: Real images of a step.
        learned: Distilled images.
        shown: Distilled images that a step regresses on, copies included.
        width: Numbers of a target.
        kept: Copies of a network's weights in the pool: its members, each with the moments of its optimiser.
    """

    steps: int
    real: int
    learned: int
    shown: int
    width: int
    kept: int


def regression_stage(
    arch: str, network: nn.Module, gap: Gap, size: Regression, sizes: Sizes
) -> Stage:
    """Say what the steps take; a pass is an image, real or distilled.

    Args:
        arch: Name of the networks.
        network: One of them.
        gap: What a step differentiates by images and targets.
        size: Of the regression.
        sizes: Of the dataset.
    """
    shape = (3, sizes.image_size, sizes.image_size)

    def run(copied: nn.Module, _: int) -> None:
        device = device_of(copied)
        images = torch.rand(size.learned, *shape, device=device, requires_grad=True)
        targets = torch.zeros(size.learned, size.width, device=device, requires_grad=True)
        real = torch.rand(size.real, *shape, device=device)
        answers = torch.zeros(size.real, size.width, device=device)
        with torch.enable_grad():
            loss = gap(copied.eval().requires_grad_(False), real, answers, images, targets)
            torch.autograd.grad(loss, [images, targets])

    batch = size.real + size.shown
    numbers = size.learned * math.prod(shape)
    return network_stage(
        "regress on features",
        arch,
        network,
        run,
        size.steps * batch,
        batch,
        flops=count_flops(lambda: run(on_meta(network), batch)) // batch,
        kept=size.kept * weight_bytes(network) + 3 * 4 * numbers,
        files={"images": 4 * numbers, "targets": 4 * size.learned * size.width},
        note=f"{size.steps:,} steps of {size.real} real and {size.shown} distilled images",
    )
