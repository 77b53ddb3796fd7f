r"""Matching of trajectories: a student's short training on synthetic images shall end where an expert's longer one did.

A student starts from an expert's weights :math:`\theta_0 = \theta^*_t` and takes N steps of plain gradient descent on
synthetic images :math:`x` with a step size :math:`\alpha` of its own,

.. math:: \theta_{i+1} = \theta_i - \alpha \nabla_\theta \ell(x; \theta_i),

and is judged by how near it comes to the expert's weights M epochs later:

.. math:: L = \frac{\|\theta_N - \theta^*_{t+M}\|^2}{\|\theta^*_t - \theta^*_{t+M}\|^2}.

Sources: G. Cazenavette et al., *Dataset Distillation by Matching Training Trajectories*, CVPR 2022 (the loss); J. Cui et
al., *Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory*, ICML 2023 (gradients of constant memory);
*Enhancing Generalization via Sharpness-Aware Trajectory Matching*, 2025 (the two-pass step, from its abstract).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.objectives.functional import (
    Weights,
    descend,
    gradients_of,
    leaves_of,
    logits_of,
)

Gradient = Literal["full", "detached"]

# From the number of a student's step and all synthetic images to the batch that the step sees and its labels, int64. It
# gives the same for the same number, and gradients flow through it to the images.
View = Callable[[int, Tensor], tuple[Tensor, Tensor]]

_EPSILON = 1e-12  # added to a norm that divides


@dataclass(frozen=True)
class Segment:
    """A stretch of an expert's training.

    Attributes:
        start: The weights that the student starts from, by name.
        target: The weights where it shall arrive.
    """

    start: Mapping[str, Tensor]
    target: Mapping[str, Tensor]


@dataclass(frozen=True)
class Match:
    """What one comparison with an expert gives.

    Attributes:
        loss: Scalar; 1 where the student is as far from the target as it was at the start.
        images: Gradient of the loss by the synthetic images, of their shape.
        step_size: Its gradient by the step size; scalar.
        kept: Weights along the student's way, where they were asked for.
    """

    loss: Tensor
    images: Tensor
    step_size: Tensor
    kept: Weights | None = None


def squared_distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
    """Add up the squared differences of all weights.

    Args:
        one: Weights by name.
        other: Of the same names and shapes.

    Returns:
        A scalar.

    Example:
        >>> squared_distance({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.0, 4.0])})
        tensor(5.)
    """
    return torch.stack([(one[name] - other[name]).square().sum() for name in other]).sum()


def normalised_distance(end: Mapping[str, Tensor], segment: Segment) -> Tensor:
    """Compare where a student ended with where the expert did, relative to the way that the expert took.

    Args:
        end: The student's last weights, by name.
        segment: The expert's start and target.

    Returns:
        A scalar: 0 at the target, 1 at the start.

    Example:
        >>> way = Segment({"w": torch.tensor([0.0])}, {"w": torch.tensor([2.0])})
        >>> normalised_distance({"w": torch.tensor([1.0])}, way)
        tensor(0.2500)
    """
    return squared_distance(end, segment.target) / squared_distance(segment.start, segment.target)


def match_trajectory(
    network: nn.Module,
    segment: Segment,
    images: Tensor,
    step_size: Tensor,
    view: View,
    steps: range,
    *,
    gradient: Gradient = "full",
    start: Mapping[str, Tensor] | None = None,
    through: int | None = None,
    keep: int | None = None,
) -> Match:
    r"""Train a student for some steps and differentiate the normalised distance by images and step size.

    ``full`` keeps the graph of all steps. ``detached`` needs the memory of one step, whatever their number: as
    :math:`\theta_N = \theta_0 - \alpha \sum_i g_i`, the gradient by the images of step i is that of
    :math:`-\frac{2 \alpha}{D} \langle \theta_N - \theta^*_{t+M}, g_i \rangle`, with all :math:`\theta_i` held fixed. So
    what earlier images do to later gradients is left out: exact for one step, an approximation for more.

    Args:
        network: The architecture, see :func:`ddoq.objectives.functional.as_student`.
        segment: Of the expert.
        images: All synthetic images, float ``(n, 3, h, w)``.
        step_size: Scalar, above 0.
        view: The batches.
        steps: The numbers of the student's steps, which ``view`` is asked for.
        gradient: ``full`` or ``detached``.
        start: Where the student starts, if not at the segment's start.
        through: Gradients go back through that many of the last steps alone; None: through all.
        keep: The number of the step before which weights are kept; None keeps none.

    Returns:
        Loss and gradients, all without a graph.
    """
    first = len(steps) - (len(steps) if through is None else through)  # that gradients reach
    begin = leaves_of(segment.start if start is None else start)
    leaf, rate = images.detach().requires_grad_(), step_size.detach().requires_grad_()
    roll = _roll_full if gradient == "full" else _roll_detached
    with torch.enable_grad():
        loss, by_images, by_rate, kept = roll(
            network, segment, begin, leaf, rate, view, steps, steps[first:], keep
        )
    return Match(loss.detach(), by_images, by_rate, kept)


_Rolled = tuple[Tensor, Tensor, Tensor, Weights | None]


def _student_gradients(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    images: Tensor,
    view: View,
    step: int,
    *,
    differentiable: bool,
) -> Weights:
    """Differentiate the loss of a batch by the weights."""
    inputs, labels = view(step, images)
    loss = F.cross_entropy(logits_of(network, weights, inputs), labels)
    return gradients_of(loss, weights, differentiable=differentiable)


def _roll_full(
    network: nn.Module,
    segment: Segment,
    weights: Weights,
    images: Tensor,
    rate: Tensor,
    view: View,
    steps: range,
    live: range,
    keep: int | None,
) -> _Rolled:
    """Keep the graph of all steps that gradients go through."""
    kept = None
    for step in steps:
        if step == keep:
            kept = leaves_of(weights)
        if step in live:
            gradients = _student_gradients(
                network, weights, images, view, step, differentiable=True
            )
            weights = descend(weights, gradients, rate)
        else:
            weights = _plain_step(network, weights, images, rate, view, step)
    loss = normalised_distance(weights, segment)
    by_images, by_rate = torch.autograd.grad(loss, [images, rate])
    return loss, by_images, by_rate, kept


def _roll_detached(
    network: nn.Module,
    segment: Segment,
    begin: Weights,
    images: Tensor,
    rate: Tensor,
    view: View,
    steps: range,
    live: range,
    keep: int | None,
) -> _Rolled:
    """Go twice: to the end without a graph, then once more to differentiate one step's gradients at a time."""
    kept = None
    weights = begin
    for step in steps:
        if step == keep:
            kept = weights
        weights = _plain_step(network, weights, images, rate, view, step)
    with torch.no_grad():
        loss = normalised_distance(weights, segment)
        way = squared_distance(segment.start, segment.target)
        # The loss by the student's last weights.
        pull = {name: 2 * (weights[name] - segment.target[name]) / way for name in weights}
    by_images, by_rate = torch.zeros_like(images), torch.zeros_like(rate)
    weights = begin
    for step in steps:
        if step not in live:
            weights = _plain_step(network, weights, images, rate, view, step)
            continue
        gradients = _student_gradients(network, weights, images, view, step, differentiable=True)
        product = torch.stack([(pull[name] * gradients[name]).sum() for name in pull]).sum()
        (share,) = torch.autograd.grad(product, [images])
        with torch.no_grad():
            by_images -= rate * share
            by_rate -= product
            stepped = descend(weights, gradients, rate)
        weights = leaves_of(stepped)
    return loss, by_images, by_rate, kept


def _plain_step(
    network: nn.Module, weights: Weights, images: Tensor, rate: Tensor, view: View, step: int
) -> Weights:
    """Take a step that no gradient goes through."""
    gradients = _student_gradients(
        network, weights, images.detach(), view, step, differentiable=False
    )
    with torch.no_grad():
        stepped = descend(weights, gradients, rate)
    return leaves_of(stepped)


def match_sharply(
    network: nn.Module,
    segment: Segment,
    images: Tensor,
    step_size: Tensor,
    view: View,
    steps: range,
    *,
    rho: float,
    through: int,
    reuse: int,
    gradient: Gradient = "full",
) -> Match:
    r"""Match where the loss is worst within a small ball around the images, so that a flat minimum is sought.

    .. math:: \nabla L(x + \epsilon), \quad \epsilon = \rho \, \nabla L(x) / \|\nabla L(x)\|

    Two economies make the pair of trainings cheaper: the gradient that only points to :math:`\epsilon` goes back through
    the last steps alone, and the second student goes on from where the first was after some steps. With ``through`` the
    number of steps and ``reuse`` 0 it is the whole step of two trainings. The step size is not disturbed.

    Args:
        network: See :func:`match_trajectory`, as the arguments up to ``steps``.
        segment: Of the expert.
        images: All synthetic images.
        step_size: Scalar.
        view: The batches.
        steps: Numbers of the student's steps.
        rho: Radius of the ball, at least 0, in the norm over all pixels of all images.
        through: The gradient that points to :math:`\epsilon` goes back through that many steps.
        reuse: Steps of the first student that the second takes over.
        gradient: Of both trainings.

    Returns:
        The loss of the images as they are, and the gradients of the disturbed ones.
    """
    keep = steps[reuse]
    clean = match_trajectory(
        network,
        segment,
        images,
        step_size,
        view,
        steps,
        gradient=gradient,
        through=through,
        keep=keep,
    )
    epsilon = rho * clean.images / (clean.images.norm() + _EPSILON)
    disturbed = match_trajectory(
        network,
        segment,
        images.detach() + epsilon,
        step_size,
        view,
        steps[reuse:],
        gradient=gradient,
        start=clean.kept,
    )
    return Match(clean.loss, disturbed.images, disturbed.step_size)
