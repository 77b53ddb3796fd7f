r"""SRe2L's recovery: images that a frozen network classifies as told and normalises as it does real ones.

For images :math:`x` with labels :math:`y`, one augmentation per iteration :math:`a` and the batch normalisation
layers :math:`l` of the network :math:`f`,

.. math::

    \mathrm{CE}(f(a(x)), y) + r \sum_l m_l \left(
        \lVert \mathrm{var}_l - \hat{\mathrm{var}}_l \rVert_2 + \lVert \mathrm{mean}_l - \hat{\mathrm{mean}}_l \rVert_2
    \right)

is minimised over :math:`x` alone. Statistics are those of the layer's input over the batch, the hatted ones those that
the layer remembers from training.

Source: Z. Yin, E. Xing and Z. Shen, *Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New
Perspective*, NeurIPS 2023.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.sre2l.augmentation import Augmentation, augment

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


def statistics_gap(inputs: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    r"""Measure how far the statistics of a layer's input are from remembered ones.

    .. math:: \lVert \mathrm{var}(z) - \hat{\mathrm{var}} \rVert_2 + \lVert \mathrm{mean}(z) - \hat{\mathrm{mean}} \rVert_2

    Args:
        inputs: Float ``(n, c, ...)``; variances are biased, over all dimensions but the second.
        mean: Remembered means ``(c,)``.
        var: Remembered variances ``(c,)``.

    Returns:
        Float32 scalar.

    Example:
        >>> z = torch.tensor([[1.0], [3.0]])
        >>> statistics_gap(z, torch.tensor([2.0]), torch.tensor([4.0]))
        tensor(3.)
    """
    dims = [dim for dim in range(inputs.ndim) if dim != 1]
    batch_var, batch_mean = torch.var_mean(inputs.float(), dim=dims, correction=0)
    gap: Tensor = (batch_var - var).norm() + (batch_mean - mean).norm()
    return gap


@contextmanager
def collect_gaps(network: nn.Module, first_multiplier: float = 1.0) -> Iterator[list[Tensor]]:
    """Append to a list, at every forward pass inside the context, each batch norm's :func:`statistics_gap`.

    Args:
        network: Any network; on leaving, it is as it was.
        first_multiplier: What the first layer's gap is multiplied by.

    Yields:
        The list, which the caller empties between passes.
    """
    gaps: list[Tensor] = []

    def watch(layer: _BatchNorm, multiplier: float) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            gap = statistics_gap(args[0], layer.running_mean, layer.running_var)
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


@dataclass(frozen=True)
class Recovery:
    """What :func:`recover` returns.

    Attributes:
        images: Float32 ``(n, c, s, s)`` in normalised space, the last iterate.
        cross_entropy: Cross entropy of the first and the last iteration.
        bn_loss: Sum over layers of the statistics' gaps at these iterations, before ``r_bn``.
    """

    images: Tensor
    cross_entropy: tuple[float, float]
    bn_loss: tuple[float, float]


def recover(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    augmentations: Sequence[Augmentation],
    *,
    low: Tensor,
    high: Tensor,
    lr: float,
    r_bn: float,
    first_bn_multiplier: float = 10.0,
) -> Recovery:
    """Optimise a batch of images for a frozen network, one iteration an augmentation.

    Adam with a cosine to zero and no warm-up; after each step pixels are clamped to what an image can show.

    Args:
        network: Takes normalised images; in eval mode. Neither its parameters nor its statistics change.
        images: Float32 ``(n, c, s, s)``, the start, in normalised space; left as it is.
        labels: int64 ``(n,)``.
        augmentations: What is done to the whole batch, in turn.
        low: Least valid value of each channel in normalised space, ``(c,)``.
        high: Greatest valid value of each channel, ``(c,)``.
        lr: Adam's first learning rate.
        r_bn: Weight of the batch normalisation loss.
        first_bn_multiplier: Weight of the first layer in it.

    Returns:
        The images and both terms of the loss at the start and at the end.

    Raises:
        ValueError: If the network is in training mode, remembers no statistics, or there is no iteration.
    """
    if any(module.training for module in network.modules()):
        raise ValueError("The network must be in eval mode.")
    if not batch_norms(network):
        raise ValueError("The network has no batch normalisation layer with running statistics.")
    if not augmentations:
        raise ValueError("There must be at least one iteration.")
    low, high = low.view(-1, 1, 1), high.view(-1, 1, 1)
    pixels = images.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=lr, betas=_BETAS, eps=_EPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(augmentations))
    terms: list[tuple[Tensor, Tensor]] = []
    with torch.enable_grad(), collect_gaps(network, first_bn_multiplier) as gaps:
        for step in augmentations:
            gaps.clear()
            cross_entropy = F.cross_entropy(network(augment(pixels, step)).float(), labels)
            bn_loss = torch.stack(gaps).sum()
            # Only the images' gradient: backward() would fill those of parameters that are not frozen.
            (pixels.grad,) = torch.autograd.grad(cross_entropy + r_bn * bn_loss, pixels)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                pixels.clamp_(low, high)
            # Tensors, not numbers: reading a number would make the device wait in every iteration.
            terms = [*terms[:1], (cross_entropy.detach(), bn_loss.detach())]
    (first_ce, first_bn), (last_ce, last_bn) = terms[0], terms[-1]
    return Recovery(
        pixels.detach(),
        (float(first_ce), float(last_ce)),
        (float(first_bn), float(last_bn)),
    )
