r"""Edges that a gradient can change: symmetric logits, the binary concrete relaxation, and their densities.

Source: W. Jin et al., *Condensing Graphs via One-Step Gradient Matching* (DosCond), KDD 2022; the relaxation is that of
C. J. Maddison, A. Mnih and Y. W. Teh, *The Concrete Distribution*, ICLR 2017.
"""

import torch
from torch import Tensor

_LEAST = 0.01  # temperature at the end; official code


def symmetric(logits: Tensor) -> Tensor:
    """Return the mean of matrices and their transposes, ``(n, N, N)``."""
    return (logits + logits.mT) / 2


def edge_noise(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw one symmetric matrix a graph, uniform in (0, 1): an edge has one number, not one a direction.

    Args:
        shape: ``(n, N, N)``.
        generator: On the CPU.
    """
    least = torch.finfo(torch.float32).eps
    upper = torch.rand(shape, generator=generator).clamp(least, 1 - least).triu(1)
    return upper + upper.mT + 0.5 * torch.eye(shape[-1])


def relaxed_adjacency(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    r"""Relax Bernoulli edges, :math:`\sigma((\Omega + \log u - \log(1 - u)) / t)`, without loops.

    Args:
        logits: Float ``(n, N, N)``; they are made symmetric.
        noise: Uniform in (0, 1), symmetric, ``(n, N, N)``.
        temperature: The lower, the nearer to 0 and 1.

    Returns:
        Float ``(n, N, N)`` in [0, 1], symmetric, with a zero diagonal.

    Example:
        >>> half = torch.full((1, 2, 2), 0.5)
        >>> relaxed_adjacency(torch.zeros(1, 2, 2), half, 1.0)
        tensor([[[0.0000, 0.5000],
                 [0.5000, 0.0000]]])
    """
    soft = torch.sigmoid((symmetric(logits) + torch.logit(noise)) / temperature)
    upper = soft.triu(1)  # mirrored, so that no rounding tells the directions of an edge apart
    return upper + upper.mT


def discrete_adjacency(logits: Tensor) -> Tensor:
    """Keep the edges that are likelier than not: float ``(n, N, N)`` of 0 and 1."""
    return _without_loops((symmetric(logits) > 0).float())


def initial_logits(adjacency: Tensor) -> Tensor:
    """Return logits 5 for edges and -5 for others, as the official code begins; ``(n, N, N)``."""
    return 10 * adjacency - 5


def temperature_at(step: int) -> float:
    """Return the temperature of a step: from 1 down to 0.01 in 200 steps, and no further; official code.

    Example:
        >>> [round(temperature_at(step), 3) for step in (0, 100, 200, 1000)]
        [1.0, 0.1, 0.01, 0.01]
    """
    return float(max(_LEAST ** (step / 200), _LEAST))


def density(logits: Tensor) -> Tensor:
    """Return the mean probability of an edge, over all pairs of different nodes: a scalar."""
    nodes = logits.shape[-1]
    pairs = len(logits) * nodes * (nodes - 1)
    return _without_loops(torch.sigmoid(symmetric(logits))).sum() / pairs


def _without_loops(matrices: Tensor) -> Tensor:
    return matrices * (1 - torch.eye(matrices.shape[-1], device=matrices.device))
