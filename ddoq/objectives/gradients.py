r"""Distances between two gradients of a network's weights, for methods that match gradients.

Source: B. Zhao, K. R. Mopuri and H. Bilen, *Dataset Condensation with Gradient Matching*, ICLR 2021; constants from
the official repository VICO-UoE/DatasetCondensation at 53f63a6.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest

Distance = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]

_EPSILON = 1e-6  # added to the product of two norms


def row_cosine(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    r"""Add up, over the output units of all weight matrices, one minus the cosine.

    .. math::
        \sum_\ell \sum_i 1 - \frac{\langle A_{\ell i}, B_{\ell i} \rangle}{\|A_{\ell i}\| \|B_{\ell i}\| + 10^{-6}}

    with the row :math:`A_{\ell i}` of layer :math:`\ell` that belongs to its output :math:`i`. Biases and the vectors of
    norms are left out. Equation 9 of the source.

    Args:
        real: Gradients by the name of the parameter, ``(out, ...)`` each.
        synthetic: The same for synthetic images.

    Returns:
        A scalar, at least 0 up to rounding.

    Example:
        >>> a = {"weight": torch.tensor([[1.0, 0.0], [0.0, 2.0]]), "bias": torch.tensor([5.0, 5.0])}
        >>> b = {"weight": torch.tensor([[0.0, 1.0], [0.0, 1.0]]), "bias": torch.tensor([0.0, 0.0])}
        >>> round(row_cosine(a, b).item(), 4)  # orthogonal, then parallel
        1.0
    """
    parts = []
    for left, right in _pairs(real, synthetic):
        if left.ndim < 2:
            continue
        a, b = left.flatten(1), right.flatten(1)
        norms = a.norm(dim=1) * b.norm(dim=1)
        parts.append((1 - (a * b).sum(dim=1) / (norms + _EPSILON)).sum())
    return torch.stack(parts).sum()


def squared_error(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """Add up the squared differences of all gradients, biases included.

    Args:
        real: Gradients by the name of the parameter.
        synthetic: The same for synthetic images.

    Returns:
        A scalar.

    Example:
        >>> squared_error({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.0, 4.0])})
        tensor(5.)
    """
    return torch.stack([(a - b).square().sum() for a, b in _pairs(real, synthetic)]).sum()


def relative_squared_error(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """Return the squared differences of all gradients, biases included, over the squares of the real ones.

    Source: the metric ``mse`` of DosCond, amazon-science/doscond at 1790a72.

    Args:
        real: Gradients by the name of the parameter.
        synthetic: The same for synthetic samples.

    Returns:
        A scalar, 1 where all synthetic gradients are zero.

    Example:
        >>> relative_squared_error({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 4.0])}).item()
        0.800000011920929
    """
    squares = torch.stack([a.square().sum() for a, _ in _pairs(real, synthetic)]).sum()
    return squared_error(real, synthetic) / squares.clamp(min=torch.finfo(squares.dtype).tiny)


def global_cosine(real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]) -> Tensor:
    """Return one minus the cosine of all gradients as one vector, biases included.

    Args:
        real: Gradients by the name of the parameter.
        synthetic: The same for synthetic images.

    Returns:
        A scalar in [0, 2] up to rounding.

    Example:
        >>> global_cosine({"w": torch.tensor([1.0]), "b": torch.tensor([0.0])},
        ...               {"w": torch.tensor([0.0]), "b": torch.tensor([2.0])})
        tensor(1.)
    """
    pairs = _pairs(real, synthetic)
    a, b = (torch.cat([pair[side].flatten() for pair in pairs]) for side in (0, 1))
    cosine: Tensor = (a * b).sum() / (a.norm() * b.norm() + _EPSILON)
    return 1 - cosine


def _pairs(
    real: Mapping[str, Tensor], synthetic: Mapping[str, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    if real.keys() != synthetic.keys():
        raise ValueError(f"Gradients of other weights: {list(real)} and {list(synthetic)}.")
    return [(real[name], synthetic[name]) for name in real]


DISTANCES: dict[str, Distance] = {
    "row-cosine": row_cosine,
    "squared-error": squared_error,
    "relative-squared-error": relative_squared_error,
    "global-cosine": global_cosine,
}


def gradient_distance(name: str) -> Distance:
    """Look a distance up.

    Args:
        name: A key of ``DISTANCES``.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in DISTANCES:
        raise UserError(f"Unknown distance of gradients {name!r}. {suggest(name, DISTANCES)}")
    return DISTANCES[name]
