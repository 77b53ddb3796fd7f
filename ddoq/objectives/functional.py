"""Networks as functions of their weights, so that gradients flow through a training step or to its images."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

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


def leaves_of(weights: Mapping[str, Tensor]) -> Weights:
    """Cut weights off from what they were computed of.

    Args:
        weights: By the name of the parameter.

    Returns:
        The same values, which share memory; each asks for gradients.
    """
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def flatten_weights(weights: Mapping[str, Tensor]) -> Tensor:
    """Write all weights into one vector, in their order.

    Args:
        weights: By the name of the parameter.

    Returns:
        Float ``(p,)``, without gradient.

    Example:
        >>> flatten_weights({"a": torch.ones(1, 2), "b": torch.zeros(1)})
        tensor([1., 1., 0.])
    """
    return torch.cat([weight.detach().flatten() for weight in weights.values()])


def split_weights(vector: Tensor, like: Mapping[str, Tensor]) -> Weights:
    """Take apart what :func:`flatten_weights` put together.

    Args:
        vector: Float ``(p,)``.
        like: Weights of the same names, order and shapes.

    Returns:
        By name; each asks for gradients.

    Example:
        >>> split_weights(torch.arange(3.0), {"a": torch.ones(1, 2), "b": torch.zeros(1)})["a"]
        tensor([[0., 1.]], requires_grad=True)
    """
    parts = vector.split([weight.numel() for weight in like.values()])
    shaped = {
        name: part.reshape(weight.shape)
        for (name, weight), part in zip(like.items(), parts, strict=True)
    }
    return leaves_of(shaped)


def as_student(network: nn.Module) -> nn.Module:
    """Set how a network computes along a training that is matched: nothing in it draws, and nothing is remembered.

    Args:
        network: Any module; changed in place.

    Returns:
        The same: dropout is off, batch norm takes the statistics of the batch.
    """
    network.eval()
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.train()
    return network


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


def gradients_of(
    loss: Tensor, weights: Mapping[str, Tensor], *, differentiable: bool, retain: bool = False
) -> Weights:
    """Differentiate a loss by weights.

    Args:
        loss: A scalar that depends on all of them.
        weights: By the name of the parameter.
        differentiable: Whether the gradients can be differentiated in turn, e.g. by the images behind the loss.
        retain: Whether what the loss was computed by is kept for a further loss, as it always is where they can.

    Returns:
        Gradients by name.

    Example:
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> gradients_of((w**2).sum(), {"w": w}, differentiable=False)["w"]
        tensor([6.])
    """
    gradients = torch.autograd.grad(
        loss,
        list(weights.values()),
        retain_graph=differentiable or retain,
        create_graph=differentiable,
    )
    return dict(zip(weights, gradients, strict=True))


def sample_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Differentiate the cross-entropy of each image by itself by all weights of a network.

    Args:
        network: A classifier in which no image sees another (no batch norm).
        images: Float ``(n, 3, h, w)``, normalised.
        labels: int64 ``(n,)``.

    Returns:
        Float ``(n, p)``, weights in the order of :func:`flatten_weights`; their mean is the gradient of the mean loss.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> sample_gradients(network, torch.zeros(4, 3, 1, 1), torch.tensor([0, 1, 1, 0])).shape
        torch.Size([4, 8])
    """
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def loss(held: Weights, image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits_of(network, held, image[None]), label[None])

    by_name = vmap(grad(loss), in_dims=(None, 0, 0))(weights, images, labels)
    return torch.cat([by_name[name].detach().flatten(1) for name in weights], dim=1)


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
