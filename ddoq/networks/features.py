"""The features of an image: what a classifier's last layer sees."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ddoq.errors import UserError


def classifier_of(network: nn.Module) -> nn.Linear:
    """Return the last linear layer of a classifier.

    Args:
        network: From images to logits: one of ours, of timm or of torchvision.

    Returns:
        The layer that makes the logits, the network's own.

    Raises:
        UserError: If no linear layer makes them.

    Example:
        >>> classifier_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        Linear(in_features=3, out_features=2, bias=True)
    """
    # In every family in use the layer that makes the logits is the last one that is registered; a head of timm's says so.
    named = getattr(network, "get_classifier", None)
    layers = [named()] if callable(named) else list(network.modules())
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if not linear:
        raise UserError(
            f"{type(network).__name__} has no linear layer that makes its logits, so that it has no features to "
            "match: choose another network, e.g. convnet3 or resnet18."
        )
    return linear[-1]


def replace_classifier(network: nn.Module, make: Callable[[int], nn.Module]) -> int:
    """Put another layer in the place of a classifier's last one, in place.

    Args:
        network: From images to logits.
        make: Makes the layer for a number of features.

    Returns:
        The number of features.

    Raises:
        UserError: If no linear layer makes the logits.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> replace_classifier(network, lambda _: nn.Identity()), network[2]
        (3, Identity())
    """
    old = classifier_of(network)
    (name,) = (name for name, layer in network.named_modules() if layer is old)
    network.set_submodule(name, make(old.in_features))
    return old.in_features


@contextmanager
def captured_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the last layer of a network sees, for every call inside.

    Args:
        network: A classifier; its weights may be others at each call (:func:`torch.func.functional_call`).

    Yields:
        A list to which each call appends float ``(n, d)``; gradients flow.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].flatten(1))

    handle = classifier_of(network).register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def penultimate(network: nn.Module, images: Tensor) -> Tensor:
    """Compute the features of images.

    Args:
        network: From normalised images to logits.
        images: Float ``(n, 3, h, w)``.

    Returns:
        Float ``(n, d)``: what the last linear layer multiplies.

    Raises:
        UserError: If no linear layer makes the logits.

    Example:
        >>> import torch
        >>> from ddoq.networks import build_network
        >>> penultimate(build_network("convnet2-w8", 10, 16), torch.zeros(5, 3, 16, 16)).shape
        torch.Size([5, 128])
    """
    with captured_features(network) as seen:
        network(images)
    return seen[-1]
