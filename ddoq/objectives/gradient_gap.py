r"""How far the gradient of a training loss on a weighted set is from that on the data.

With a loss :math:`\ell` and weights :math:`\theta` the gap is :math:`\| \nabla_\theta \frac1n \sum_i \ell(x_i) -
\nabla_\theta \sum_k w_k \ell(c_k) \|`. Whatever the Lipschitz constant L of :math:`x \mapsto \nabla_\theta \ell(x)` is, the gap
is at most L times the Wasserstein distance of the two measures: this is how quantisation bounds it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ddoq.errors import UserError
from ddoq.objectives.functional import logits_of

SampleLoss = Callable[[Tensor, Tensor], Tensor]  # of outputs (n, C) and targets (n, ...), to (n,)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with class indices, per sample: float ``(n, C)`` and int64 ``(n,)`` to ``(n,)``."""
    return F.cross_entropy(logits, labels, reduction="none")


def check_additive(network: nn.Module) -> None:
    """Refuse networks whose loss on a set is no mean over its samples.

    Raises:
        UserError: If a layer normalises over the batch or drops at random.
    """
    for name, layer in network.named_modules():
        random = isinstance(layer, _DropoutNd) and layer.p > 0
        if isinstance(layer, _BatchNorm) or random:
            raise UserError(
                f"A gradient gap needs a network without batch norm and dropout, but {name} is a {type(layer).__name__}: "
                "the gradient of a set would not be the mean over its samples. Take e.g. convnet3-w32."
            )


def weighted_gradients(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    inputs: Tensor,
    targets: Tensor,
    shares: Tensor,
    *,
    loss: SampleLoss = cross_entropy,
    batch_size: int = 256,
) -> Tensor:
    r"""Differentiate several weighted sums of the loss, :math:`\nabla_\theta \sum_i s_{wi} \ell_i(\theta)`.

    Args:
        network: The architecture; see :func:`check_additive`.
        weights: Its weights by name; they ask for gradients.
        inputs: Float ``(n, ...)``.
        targets: ``(n, ...)``, what the loss takes.
        shares: Float ``(W, n)``, a row for each weighting.
        loss: Loss per sample.
        batch_size: Samples at a time.

    Returns:
        Gradients ``(W, P)``, all weights in their order as one vector.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> weights = {"weight": torch.ones(1, 1, requires_grad=True)}
        >>> inputs, shares = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]])
        >>> weighted_gradients(network, weights, inputs, inputs, shares, loss=lambda out, _: out[:, 0]).tolist()
        [[1.5], [2.0]]
    """
    size = sum(weight.numel() for weight in weights.values())
    total = next(iter(weights.values())).new_zeros(len(shares), size, requires_grad=False)
    for rows in torch.arange(len(inputs), device=inputs.device).split(batch_size):
        losses = loss(logits_of(network, weights, inputs[rows]), targets[rows])
        for number, share in enumerate(shares[:, rows].to(losses)):
            parts = torch.autograd.grad(
                losses @ share, list(weights.values()), retain_graph=number + 1 < len(shares)
            )
            total[number] += torch.cat([part.flatten() for part in parts])
    return total


@dataclass(frozen=True)
class GradientGap:
    """How two gradients differ.

    Attributes:
        norm: Length of their difference.
        relative: The same over the length of the real gradient.
        cosine: Of the angle between them.
    """

    norm: float
    relative: float
    cosine: float


def gradient_gap(real: Tensor, synthetic: Tensor) -> GradientGap:
    """Compare the gradient on a set with that on the data.

    Args:
        real: Float ``(P,)``.
        synthetic: Float ``(P,)``.

    Returns:
        The gap; a real gradient of 0 makes ``relative`` infinite, unless the other is 0 too.

    Example:
        >>> gap = gradient_gap(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0]))
        >>> gap.norm, round(gap.relative, 4), round(gap.cosine, 4)
        (4.0, 1.3333, 0.6)
    """
    a, b = real.double(), synthetic.double()
    norm = float((a - b).norm())
    length = float(a.norm())
    product = length * float(b.norm())
    relative = norm / length if length > 0 else (0.0 if norm == 0 else float("inf"))
    return GradientGap(norm, relative, float(a @ b) / product if product > 0 else 0.0)


def gradient_slopes(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    left: Tensor,
    right: Tensor,
    targets: Tensor,
    *,
    loss: SampleLoss = cross_entropy,
) -> Tensor:
    r"""Return :math:`\| \nabla_\theta \ell(x) - \nabla_\theta \ell(y) \| / \| x - y \|` for pairs of inputs.

    The largest is a lower bound of the Lipschitz constant.

    Args:
        network: The architecture; see :func:`check_additive`.
        weights: Its weights by name.
        left: Float ``(n, ...)``.
        right: Float ``(n, ...)``.
        targets: ``(n, ...)``, of both inputs of a pair.
        loss: Loss per sample.

    Returns:
        ``(n,)``; 0 for pairs of equal inputs.
    """
    plain = {name: weight.detach() for name, weight in weights.items()}

    def single(values: Mapping[str, Tensor], sample: Tensor, target: Tensor) -> Tensor:
        return loss(functional_call(network, dict(values), (sample[None],)), target[None])[0]

    def gradients(samples: Tensor) -> Tensor:
        parts = vmap(grad(single), in_dims=(None, 0, 0))(plain, samples, targets)
        return torch.cat([part.flatten(1) for part in parts.values()], dim=1)

    apart = (left - right).flatten(1).norm(dim=1)
    difference = (gradients(left) - gradients(right)).norm(dim=1)
    return torch.where(apart > 0, difference / apart.clamp(min=1e-30), torch.zeros_like(apart))
