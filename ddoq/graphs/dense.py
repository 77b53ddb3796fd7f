"""The dense twin of the graph convolutional network: the same weights on adjacency matrices that have gradients."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ddoq.graphs.batches import DenseGraphs


def dense_gcn(weights: Mapping[str, Tensor], graphs: DenseGraphs, pooling: str) -> Tensor:
    """Compute what ``gcn`` of :func:`ddoq.graphs.build.build_graph_network` does, with edges of any weight.

    Args:
        weights: Of that network, by name: ``convs.<i>.lin.weight``, ``convs.<i>.bias``, ``head.weight``, ``head.bias``.
        graphs: The graphs; gradients flow to features and edges.
        pooling: ``mean``, ``sum`` or ``max``, as of the network.

    Returns:
        Logits ``(n, classes)``.
    """
    x = _layers(weights, graphs.x, normalized(graphs.adjacency))
    return _classify(weights, _pool(x, graphs.mask, pooling))


def dense_node_gcn(weights: Mapping[str, Tensor], x: Tensor, adjacency: Tensor) -> Tensor:
    """Compute what the ``gcn`` for nodes does on all nodes of one graph.

    Args:
        weights: See :func:`dense_gcn`.
        x: Features ``(N, d)``; gradients flow to them and to the edges.
        adjacency: Weights of edges, symmetric with a zero diagonal, ``(N, N)``.

    Returns:
        Logits ``(N, classes)``.
    """
    return _classify(weights, _layers(weights, x, normalized(adjacency[None])[0]))


def _layers(weights: Mapping[str, Tensor], x: Tensor, passing: Tensor) -> Tensor:
    """Apply all layers to the nodes, ``(..., N, d)`` to ``(..., N, hidden)``."""
    depth = sum(name.endswith(".lin.weight") for name in weights)
    for number in range(depth):
        x = (
            passing @ (x @ weights[f"convs.{number}.lin.weight"].T)
            + weights[f"convs.{number}.bias"]
        )
        x = x.relu()
    return x


def _classify(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x @ weights["head.weight"].T + weights["head.bias"]


def normalized(adjacency: Tensor) -> Tensor:
    r"""Return :math:`D^{-1/2} (A + I) D^{-1/2}` with the degrees D of A + I; float ``(n, N, N)``.

    Example:
        >>> normalized(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]))
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])
    """
    loops = adjacency + torch.eye(adjacency.shape[-1], device=adjacency.device)
    scale = loops.sum(dim=-1).rsqrt()
    return scale[:, :, None] * loops * scale[:, None, :]


def _pool(x: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Fold the nodes of each graph, ``(n, N, d)`` to ``(n, d)``."""
    present = mask[..., None]
    if pooling == "max":
        return x.masked_fill(~present, -torch.inf).amax(dim=1)
    total = (x * present).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True) if pooling == "mean" else total
