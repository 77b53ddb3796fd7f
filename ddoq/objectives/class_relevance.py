"""How near two sets of images of a class are in the features of a network that matter to the class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_EPSILON = 1e-12  # added to what divides


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """List the blocks of a classifier whose outputs are compared.

    Args:
        network: Any; of a ConvNet its blocks, of others the modules that it is made of.

    Example:
        >>> from ddoq.networks import build_network
        >>> len(blocks_of(build_network("convnet3-w8", 10, 32)))
        3
    """
    features = getattr(network, "features", None)
    return list(features if isinstance(features, nn.Sequential) else network.children())


def relevant_means(network: nn.Module, images: Tensor, label: int) -> list[Tensor]:
    r"""Average the maps of every block over images, each weighted by where the network sees the class.

    The weights are a class activation map of the block: channels are added up, each times the mean gradient of the class's
    logit by it, what is negative is cut off, and the largest value is 1 (as R. R. Selvaraju et al., *Grad-CAM*, ICCV 2017,
    have it).

    Args:
        network: A classifier in evaluation mode.
        images: Float ``(n, 3, h, w)``, of one class; no gradient flows to them.
        label: The class.

    Returns:
        Of every block whose output is maps, float ``(c, h', w')``.
    """
    maps: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            maps.append(output)

    handles = [block.register_forward_hook(keep) for block in blocks_of(network)]
    try:
        with torch.enable_grad():
            logits: Tensor = network(images.detach().requires_grad_())
            gradients = torch.autograd.grad(logits[:, label].sum(), maps)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (found * activation_map(found, gradient)).mean(dim=0).detach()
        for found, gradient in zip(maps, gradients, strict=True)
    ]


def activation_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return where maps speak for what a gradient is of.

    Args:
        maps: Float ``(n, c, h, w)``.
        gradient: Of the logit by these, of the same shape.

    Returns:
        Float ``(n, 1, h, w)`` in [0, 1].

    Example:
        >>> maps = torch.tensor([[[[1.0, 2.0]], [[4.0, 0.0]]]])
        >>> gradient = torch.tensor([[[[2.0, 2.0]], [[-1.0, 0.0]]]])  # on average 2 and -1/2
        >>> activation_map(maps, gradient)
        tensor([[[[0., 1.]]]])
    """
    weighted = (maps * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True)
    positive: Tensor = weighted.clamp(min=0)
    return positive / (positive.amax(dim=(2, 3), keepdim=True) + _EPSILON)


def relevance_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Add up the squared distances of the mean maps of all blocks.

    Args:
        one: Of each block, float ``(c, h, w)``.
        other: Of the same shapes.

    Returns:
        A scalar.

    Example:
        >>> relevance_distance([torch.zeros(1, 1, 2)], [torch.tensor([[[1.0, 2.0]]])])
        tensor(5.)
    """
    return torch.stack(
        [(left - right).square().sum() for left, right in zip(one, other, strict=True)]
    ).sum()
