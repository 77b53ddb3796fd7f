r"""SRe2L's recovery: images that a frozen network classifies as told and normalises as it does real ones.

For images :math:`x` with labels :math:`y`, one augmentation per iteration :math:`a` and the batch normalisation
layers :math:`l` of the network :math:`f`,

.. math::

    \mathrm{CE}(f(a(x)), y) + r \sum_l m_l \left(
        \lVert \mathrm{var}_l - \hat{\mathrm{var}}_l \rVert_2 + \lVert \mathrm{mean}_l - \hat{\mathrm{mean}}_l \rVert_2
    \right)

is minimised over :math:`x` alone. Statistics are those of the layer's input over the batch, the hatted ones those that
the layer remembers from training. Several batches may share a pass through the network: each is then a group with
its own augmentation and its own statistics, so that it goes the way that it would go alone.

Source: Z. Yin, E. Xing and Z. Shen, *Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
Perspective*, NeurIPS 2023.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.sre2l.augmentation import Augmentation, augment
from ddoq.optimisation.steps import StepLoop
from ddoq.storage.checkpoints import Checkpoint

# Adam's settings in the official recovery scripts (VILA-Lab/SRe2L at 8d00cba).
_BETAS = (0.5, 0.9)
_EPS = 1e-8


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """List the batch normalisation layers that remember statistics, in the order they were registered.

    Example:
        >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False))
        >>> len(batch_norms(net))
        1
    """
    layers = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
    return [layer for layer in layers if layer.running_mean is not None]


def statistics_gap(
    inputs: Tensor, mean: Tensor, var: Tensor, sizes: Sequence[int] | None = None
) -> Tensor:
    r"""Measure how far the statistics of a layer's input are from remembered ones.

    .. math:: \lVert \mathrm{var}(z) - \hat{\mathrm{var}} \rVert_2 + \lVert \mathrm{mean}(z) - \hat{\mathrm{mean}} \rVert_2

    Args:
        inputs: Float ``(n, c, ...)``; variances are biased, over all dimensions but the second.
        mean: Remembered means ``(c,)``.
        var: Remembered variances ``(c,)``.
        sizes: Images of each of g groups, in turn, which sum to n; None is one group.

    Returns:
        A float32 scalar that lets gradients through; with ``sizes`` one a group, ``(g,)``.

    Example:
        >>> z = torch.tensor([[1.0], [3.0]])
        >>> statistics_gap(z, torch.tensor([2.0]), torch.tensor([4.0]))
        tensor(3.)
        >>> statistics_gap(z, torch.tensor([2.0]), torch.tensor([0.0]), sizes=[1, 1])
        tensor([1., 1.])
    """
    if sizes is not None:
        if len(set(sizes)) > 1:
            parts = inputs.split(list(sizes))
            return torch.stack([statistics_gap(part, mean, var) for part in parts])
        inputs = inputs.unflatten(0, (len(sizes), -1))
    channels = 1 if sizes is None else 2
    dims = [dim for dim in range(inputs.ndim) if dim != channels and (dim or sizes is None)]
    # One pass over the layer's input; in float32, since squares of bfloat16 lose what is matched here.
    batch_var, batch_mean = torch.var_mean(inputs.float(), dim=dims, correction=0)
    if sizes is None:
        gap: Tensor = (batch_var - var).norm() + (batch_mean - mean).norm()
        return gap
    gaps: Tensor = (batch_var - var).norm(dim=1) + (batch_mean - mean).norm(dim=1)
    return gaps


@contextmanager
def collect_gaps(
    network: nn.Module, first_multiplier: float = 1.0, sizes: Sequence[int] | None = None
) -> Iterator[list[Tensor]]:
    """Append to a list, at every forward pass inside the context, each batch norm's :func:`statistics_gap`.

    Args:
        network: Any network; on leaving, it is as it was.
        first_multiplier: What the first layer's gap is multiplied by.
        sizes: Images of each group; None is one group.

    Yields:
        The list, which the caller empties between passes.
    """
    gaps: list[Tensor] = []

    def watch(layer: _BatchNorm, multiplier: float) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            gap = statistics_gap(args[0], layer.running_mean, layer.running_var, sizes)
            gaps.append(gap if multiplier == 1 else multiplier * gap)

        return layer.register_forward_pre_hook(hook)

    handles = [
        watch(layer, 1.0 if index else first_multiplier)
        for index, layer in enumerate(batch_norms(network))
    ]
    try:
        yield gaps
    finally:
        for handle in handles:
            handle.remove()


# Both terms of the loss, of each group: from augmented images and labels to (cross entropy, batch norm loss), scalars
# for one group and (g,) for several.
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@contextmanager
def open_objective(
    network: nn.Module, first_multiplier: float, sizes: Sequence[int] | None = None
) -> Iterator[Objective]:
    """Watch the batch norms of a network as long as the context lasts.

    Args:
        network: Takes normalised images; on leaving, it is as it was.
        first_multiplier: Weight of the first batch norm.
        sizes: Images of each group; None is one group.

    Yields:
        A function from normalised images ``(n, c, s, s)`` and labels ``(n,)`` to cross entropy and batch norm loss.
    """
    with collect_gaps(network, first_multiplier, sizes) as gaps:

        def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            gaps.clear()  # of a pass that failed
            logits = network(images).float()
            bn_loss = torch.stack(gaps).sum(0)
            gaps.clear()  # every pass finds the list as the first one did, or it would be compiled again
            if sizes is None:
                return F.cross_entropy(logits, labels), bn_loss
            parts = zip(logits.split(list(sizes)), labels.split(list(sizes)), strict=True)
            cross_entropy = torch.stack([F.cross_entropy(part, label) for part, label in parts])
            return cross_entropy, bn_loss

        yield objective


@dataclass(frozen=True)
class Recovery:
    """What :func:`recover` returns.

    Attributes:
        images: Float32 ``(n, c, s, s)`` in normalised space, the last iterate.
        cross_entropy: Cross entropy of the first and the last iteration, averaged over images.
        bn_loss: Sum over layers of the statistics' gaps at these iterations, before ``r_bn``, averaged like it.
    """

    images: Tensor
    cross_entropy: tuple[float, float]
    bn_loss: tuple[float, float]


def recover(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    augmentations: Sequence[Augmentation] | Sequence[Sequence[Augmentation]],
    *,
    low: Tensor,
    high: Tensor,
    lr: float,
    r_bn: float,
    first_bn_multiplier: float = 10.0,
    sizes: Sequence[int] | None = None,
    objective: Objective | None = None,
    checkpoint: Checkpoint | None = None,
    what: str | None = None,
) -> Recovery:
    """Optimise a batch of images for a frozen network, one iteration an augmentation.

    Adam with a cosine to zero and no warm-up; after each step pixels are clamped to what an image can show.

    Args:
        network: Takes normalised images; in eval mode. Neither its parameters nor its statistics change.
        images: Float32 ``(n, c, s, s)``, the start, in normalised space; left as it is.
        labels: int64 ``(n,)``.
        augmentations: What is done to the whole batch, in turn; with ``sizes`` one such list a group.
        low: Least valid value of each channel in normalised space, ``(c,)``.
        high: Greatest valid value of each channel, ``(c,)``.
        lr: Adam's first learning rate.
        r_bn: Weight of the batch normalisation loss.
        first_bn_multiplier: Weight of the first layer in it.
        sizes: Images of each group that has its own augmentations and statistics; None is one group.
        objective: Computes both terms of the loss in place of :func:`open_objective`, e.g. a compiled one.
        checkpoint: Where a killed process finds images and optimiser again; None keeps nothing.
        what: What to call the work in lines of progress; None prints none.

    Returns:
        The images and both terms of the loss at the start and at the end.

    Raises:
        ValueError: If the network is in training mode or remembers no statistics, if there is no iteration, or if
            groups and images do not match.
    """
    plan: Sequence[Sequence[Augmentation]] = (
        [augmentations] if sizes is None else augmentations  # type: ignore[list-item,assignment]
    )
    _check(network, images, plan, sizes)
    opened = (
        open_objective(network, first_bn_multiplier, sizes)
        if objective is None
        else nullcontext(objective)
    )
    settings: dict[str, Any] = {"low": low, "high": high, "lr": lr, "r_bn": r_bn, "sizes": sizes}
    with opened as terms:
        pixels, first, last = optimise(
            terms, images, labels, plan, **settings, checkpoint=checkpoint, what=what
        )
    (first_ce, first_bn), (last_ce, last_bn) = (_average(terms, sizes) for terms in (first, last))
    return Recovery(pixels, (first_ce, last_ce), (first_bn, last_bn))


def _average(terms: Sequence[Tensor], sizes: Sequence[int] | None) -> list[float]:
    """Average terms of the loss over images; the only place where numbers are read from the device."""
    if sizes is None:
        return [float(term) for term in terms]
    shares = torch.tensor(sizes) / sum(sizes)
    return [float(term.cpu().reshape(-1) @ shares) for term in terms]


def _check(
    network: nn.Module,
    images: Tensor,
    plan: Sequence[Sequence[Augmentation]],
    sizes: Sequence[int] | None,
) -> None:
    if any(module.training for module in network.modules()):
        raise ValueError("The network must be in eval mode.")
    if not batch_norms(network):
        raise ValueError("The network has no batch normalisation layer with running statistics.")
    if not plan or not plan[0]:
        raise ValueError("There must be at least one iteration.")
    if sizes is not None and (sum(sizes) != len(images) or min(sizes) < 1):
        raise ValueError(f"Groups of {list(sizes)} images do not make up {len(images)}.")
    if len({len(part) for part in plan}) > 1 or len(plan) != (1 if sizes is None else len(sizes)):
        raise ValueError("Every group needs its own augmentations, as many as the others.")


def optimise(
    objective: Objective,
    images: Tensor,
    labels: Tensor,
    augmentations: Sequence[Sequence[Augmentation]],
    *,
    low: Tensor,
    high: Tensor,
    lr: float,
    r_bn: float,
    sizes: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    what: str | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Run the loop of :func:`recover`; it reads nothing from the device but for checkpoints, lines of progress and losses.

    Args:
        objective: Computes both terms of the loss.
        images: The start ``(n, c, s, s)``.
        labels: int64 ``(n,)``.
        augmentations: One list a group.
        low: Least valid value of each channel, ``(c,)``.
        high: Greatest valid value of each channel, ``(c,)``.
        lr: Adam's first learning rate.
        r_bn: Weight of the batch normalisation loss.
        sizes: Images of each group; None is one group.
        checkpoint: Where a killed process finds its state again; None keeps nothing.
        what: What to call the work in lines of progress; None prints none.

    Returns:
        The last iterate, and both terms of the loss at the first and at the last iteration.
    """
    low, high = low.view(-1, 1, 1), high.view(-1, 1, 1)
    iterate = _Iterate(images, lr, len(augmentations[0]))
    loop = StepLoop(
        len(augmentations[0]),
        state=iterate.state,
        restore=iterate.restore,
        checkpoint=checkpoint,
        what=what,
        mend=f"Lower model.init_args.lr (now {lr:g}), or look at the teacher.",
    )
    for iteration in loop:
        steps = [group[iteration] for group in augmentations]
        terms = objective(_augment_groups(iterate.pixels, steps, sizes), labels)
        # A sum over groups gives each the gradient that it would have alone.
        loss = (terms[0] + r_bn * terms[1]).sum()
        iterate.descend(loss, low, high)
        iterate.note((terms[0].detach(), terms[1].detach()))
        loop.loss = loss.detach()
    return iterate.pixels.detach(), iterate.terms[0], iterate.terms[-1]


class _Iterate:
    """The images with all that later iterations depend on.

    Attributes:
        pixels: The images as they are now.
        terms: Both terms of the loss, at the first and at the latest iteration.
    """

    def __init__(self, images: Tensor, lr: float, iterations: int) -> None:
        self.pixels = images.detach().clone().requires_grad_()
        self.terms: list[tuple[Tensor, Tensor]] = []
        self._optimizer = torch.optim.Adam([self.pixels], lr=lr, betas=_BETAS, eps=_EPS)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimizer, T_max=iterations
        )

    def descend(self, loss: Tensor, low: Tensor, high: Tensor) -> None:
        """Take a step, and clamp."""
        # Only the images' gradient: backward() would fill those of parameters that are not frozen.
        (self.pixels.grad,) = torch.autograd.grad(loss, self.pixels)
        self._optimizer.step()
        self._schedule.step()
        with torch.no_grad():
            self.pixels.clamp_(low, high)

    def note(self, terms: tuple[Tensor, Tensor]) -> None:
        """Keep the terms of an iteration, on the device, in place of those of the one before; the first ones stay."""
        self.terms = [*self.terms[:1], terms]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "pixels": self.pixels,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "terms": self.terms,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there; tensors are on the CPU."""
        device = self.pixels.device
        self.pixels.data.copy_(state["pixels"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.terms = [(first.to(device), second.to(device)) for first, second in state["terms"]]


def _augment_groups(
    pixels: Tensor, steps: Sequence[Augmentation], sizes: Sequence[int] | None
) -> Tensor:
    if sizes is None:
        return augment(pixels, steps[0])
    parts = zip(pixels.split(list(sizes)), steps, strict=True)
    return torch.cat([augment(part, step) for part, step in parts])
