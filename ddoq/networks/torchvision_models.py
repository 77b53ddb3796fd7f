"""Classifiers of torchvision by name, as most papers build their students."""

from typing import Any

import torch
from torch import Tensor, nn

from ddoq.errors import UserError, suggest
from ddoq.networks.stems import use_small_stem

TORCHVISION, TIMM = "torchvision", "timm"
_LIBRARIES = (TORCHVISION, TIMM)

_INSTANCE = "-in"  # ends the names of ResNets with instance norm, as in convnet3-in
_RESNETS = ("resnet", "resnext", "wide_resnet")
_WITH_AUXILIARY = (
    "googlenet",
    "inception_v3",
)  # in training they return more than logits, unless told


def split_arch(arch: str) -> tuple[str | None, str]:
    """Split the name of an architecture into its library, or None, and its name there.

    Example:
        >>> split_arch("torchvision/resnet18"), split_arch("convnet3-w64-bn")
        (('torchvision', 'resnet18'), (None, 'convnet3-w64-bn'))

    Raises:
        UserError: If the library is unknown.
    """
    library, slash, name = arch.partition("/")
    if not slash:
        return None, arch
    if library not in _LIBRARIES:
        raise UserError(
            f"Unknown library {library!r} in arch: {arch}. {suggest(library, _LIBRARIES)}"
        )
    return library, name


def check_torchvision(name: str) -> None:
    """Refuse what is no classifier of torchvision.

    Raises:
        UserError: With names that are near it.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise UserError(f"torchvision has no classifier called {name!r}. {suggest(name, names)}")


def build_torchvision(
    name: str, num_classes: int, image_size: int, stem: str | None, kwargs: dict[str, Any]
) -> nn.Module:
    """Build a classifier of torchvision with random weights from torch's global generator.

    Its initial distribution is torchvision's: the last norm of a residual block starts at 1 (timm's ResNets: at 0),
    MobileNetV2 and EfficientNet-B0 have dropout 0.2, EfficientNet-B0 and Swin-T stochastic depth 0.2.

    Args:
        name: As torchvision calls it; ``resnet18-in`` and the like have instance norm (a group for each channel, with
            scale and shift) in the place of batch norm: IDC's and Minimax Diffusion's ResNet at 224 pixels.
        num_classes: Number of logits.
        image_size: Side of the square images in pixels.
        stem: ``small`` keeps the resolution in the first layers, see :func:`ddoq.networks.stems.use_small_stem`.
        kwargs: Further arguments of the network.

    Returns:
        A module from normalised float images to logits. Nothing is downloaded.

    Raises:
        UserError: If the name is unknown, or the images or arguments do not suit the network.
    """
    from torchvision import models

    arch = f"{TORCHVISION}/{name}"
    plain, given = name, dict(kwargs)
    if name.endswith(_INSTANCE) and name.startswith(_RESNETS):
        plain, given["norm_layer"] = name.removesuffix(_INSTANCE), _instance_norm
    check_torchvision(plain)
    if plain in _WITH_AUXILIARY:
        given.setdefault("aux_logits", False)
    for key in ("weights", "weights_backbone", "num_classes"):
        if key in kwargs:
            raise UserError(f"{arch}: {key} cannot be set here; remove it from `kwargs`.")
    try:
        network: nn.Module = models.get_model(plain, weights=None, num_classes=num_classes, **given)
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise _unbuilt(arch, image_size, kwargs, error) from error
    if stem == "small":
        use_small_stem(network, arch, image_size)
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, 3, image_size, image_size))
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise _unbuilt(arch, image_size, kwargs, error) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise UserError(
            f"{arch} is no classifier of {num_classes} classes: choose another network."
        )
    return network.train()


def _instance_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels, channels)


def _unbuilt(arch: str, image_size: int, kwargs: dict[str, Any], error: Exception) -> UserError:
    given = f" with {kwargs}" if kwargs else ""
    return UserError(f"{arch} cannot be built{given} for images of {image_size} pixels: {error}")
