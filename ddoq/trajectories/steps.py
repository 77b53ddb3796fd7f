r"""Steps that experts take: plain gradient descent, and an adaptive sharpness-aware one that ends in flatter places.

Source of the latter: J. Du et al., *Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation* (FTD),
CVPR 2023; the step is J. Zhuang et al.'s GSAM (ICLR 2022) with the adaptive perturbation of J. Kwon et al.'s ASAM (ICML
2021). No code of theirs is used.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ddoq.objectives.functional import Weights, descend, gradients_of, leaves_of

# From weights by name to the loss of a batch; the same batch at every call.
Loss = Callable[[Mapping[str, Tensor]], Tensor]

_EPSILON = 1e-12  # added to norms that divide


def plain_step(loss: Loss, weights: Weights, lr: float) -> tuple[Weights, Tensor]:
    """Take a step of gradient descent.

    Args:
        loss: Of a batch.
        weights: By name; each asks for gradients.
        lr: Step size.

    Returns:
        New weights, and the loss before the step.

    Example:
        >>> weights, before = plain_step(lambda w: w["w"].square().sum(), leaves_of({"w": torch.ones(1)}), 0.25)
        >>> weights["w"].item(), before.item()
        (0.5, 1.0)
    """
    value = loss(weights)
    gradients = gradients_of(value, weights, differentiable=False)
    with torch.no_grad():
        stepped = descend(weights, gradients, lr)
    return leaves_of(stepped), value.detach()


def flat_step(
    loss: Loss, weights: Weights, lr: float, *, rho: float, alpha: float
) -> tuple[Weights, Tensor]:
    r"""Take a sharpness-aware step with gradient decomposition.

    With the gradient :math:`g` at the weights :math:`p`, they are disturbed by
    :math:`\rho \, p^2 g / \| |p| \, g \|`, the norm over all of them. With the gradient :math:`\hat g` there, the step
    from the undisturbed weights goes along :math:`\hat g - \alpha g_\perp`, where :math:`g_\perp` is the part of
    :math:`g` that is orthogonal to :math:`\hat g`. With :math:`\rho = \alpha = 0` it is the plain step, bit for bit.

    Args:
        loss: Of a batch.
        weights: By name; each asks for gradients.
        lr: Step size.
        rho: :math:`\rho`, at least 0.
        alpha: :math:`\alpha`, at least 0.

    Returns:
        New weights, and the loss before the step, of the undisturbed weights.

    Example:
        >>> start = leaves_of({"w": torch.tensor([1.0, -2.0])})
        >>> flat, _ = flat_step(lambda w: w["w"].pow(4).sum(), start, 0.01, rho=0.0, alpha=0.0)
        >>> plain, _ = plain_step(lambda w: w["w"].pow(4).sum(), start, 0.01)
        >>> torch.equal(flat["w"], plain["w"])
        True
    """
    value = loss(weights)
    clean = gradients_of(value, weights, differentiable=False)
    with torch.no_grad():
        disturbed = disturbed_weights(weights, clean, rho)
    disturbed = leaves_of(disturbed)
    sharp = gradients_of(loss(disturbed), disturbed, differentiable=False)
    with torch.no_grad():
        stepped = descend(weights, flat_direction(clean, sharp, alpha), lr)
    return leaves_of(stepped), value.detach()


def disturbed_weights(
    weights: Mapping[str, Tensor], clean: Mapping[str, Tensor], rho: float
) -> Weights:
    """Move weights uphill, as far as they are large; see :func:`flat_step`.

    Args:
        weights: By name.
        clean: Gradients there, by the same names.
        rho: Radius.

    Returns:
        Other weights, by the same names.

    Example:
        >>> disturbed_weights({"w": torch.tensor([2.0])}, {"w": torch.tensor([3.0])}, 0.5)  # 2 + 0.5 * 12 / 6
        {'w': tensor([3.])}
    """
    norm = _norm({name: weights[name].abs() * clean[name] for name in weights})
    scale = rho / (norm + _EPSILON)
    return {
        name: weight + scale * weight.square() * clean[name] for name, weight in weights.items()
    }


def flat_direction(
    clean: Mapping[str, Tensor], sharp: Mapping[str, Tensor], alpha: float
) -> Weights:
    """Take a share of the orthogonal part out of the gradient at disturbed weights; see :func:`flat_step`.

    Args:
        clean: Gradients at the weights, by name.
        sharp: Gradients at the disturbed ones.
        alpha: Share.

    Returns:
        What a step goes along, by the same names.

    Example:
        >>> flat_direction({"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([2.0, 0.0])}, 0.5)
        {'w': tensor([ 2.0000, -0.5000])}
    """
    product = torch.stack([(clean[name] * sharp[name]).sum() for name in clean]).sum()
    along = product / (_norm(sharp).square() + _EPSILON)
    return {name: sharp[name] - alpha * (clean[name] - along * sharp[name]) for name in clean}


def _norm(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the Euclidean norm of all tensors as one vector."""
    return torch.stack([tensor.square().sum() for tensor in tensors.values()]).sum().sqrt()
