"""Networks as functions of their weights, so that gradients flow through a training step or to its images."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddoq.networks.features import captured_features

Weights = dict[str, Tensor]


def weights_of(network: nn.Module) -> Weights:
    """Copy the trainable weights of a network, as leaves of their own.

    Args:
        network: Any module; it is left as it was.

    Returns:
        By name, in the network's order; each asks for gradients.

    Example:
        >>> list(weights_of(nn.Linear(2, 3)))
        ['weight', 'bias']
    """
    return {
        name: parameter.detach().clone().requires_grad_()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
    }


def logits_of(network: nn.Module, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Classify images with weights other than a network's own.

    Args:
        network: The architecture; its own weights serve where ``weights`` has none. It is in training mode and without
            statistics over batches (batch norm would keep those of its last call).
        weights: By the name of the parameter.
        images: Float ``(n, 3, h, w)``, normalised.

    Returns:
        Float ``(n, C)``.
    """
    logits: Tensor = functional_call(network, dict(weights), (images,))
    return logits


def features_of(network: nn.Module, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Compute what the last layer sees, with weights other than a network's own.

    Args:
        network: A classifier; see :func:`logits_of`.
        weights: By the name of the parameter.
        images: Float ``(n, 3, h, w)``, normalised.

    Returns:
        Float ``(n, d)``.
    """
    with captured_features(network) as seen:
        logits_of(network, weights, images)
    return seen[-1]


def gradients_of(loss: Tensor, weights: Mapping[str, Tensor], *, differentiable: bool) -> Weights:
    """Differentiate a loss by weights.

    Args:
        loss: A scalar that depends on all of them.
        weights: By the name of the parameter.
        differentiable: Whether the gradients can be differentiated in turn, e.g. by the images behind the loss.

    Returns:
        Gradients by name.

    Example:
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> gradients_of((w**2).sum(), {"w": w}, differentiable=False)["w"]
        tensor([6.])
    """
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=differentiable)
    return dict(zip(weights, gradients, strict=True))


def descend(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lr: float | Tensor
) -> Weights:
    """Take a step of plain gradient descent; what the gradients depend on stays differentiable.

    Args:
        weights: By the name of the parameter.
        gradients: By the same names.
        lr: Step size; a tensor where it is learnt.

    Returns:
        New weights.

    Example:
        >>> descend({"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, 0.25)["w"]
        tensor([0.5000])
    """
    return {name: weight - lr * gradients[name] for name, weight in weights.items()}
