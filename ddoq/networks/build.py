"""One function that builds every network by its name."""

import difflib
import re
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.errors import UserError, suggest
from ddoq.networks.convnet import PATTERN, ConvNet, parse_convnet
from ddoq.networks.resnet_ap import ResNetAP, parse_resnet_ap
from ddoq.networks.stems import STEMS, use_small_stem
from ddoq.networks.torchvision_models import TIMM, TORCHVISION, build_torchvision, split_arch
from ddoq.seeding import derive_seed

_NATIVE = re.compile(
    "convnet|resnet_?ap"
)  # how the names of networks start that are built here, not by timm

# Arguments of timm.create_model that would download, unpickle or change what a classifier takes and returns.
_RESERVED = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
    "features_only",
    "in_chans",
)


def build_network(
    name: str, num_classes: int, image_size: int, *, stem: str | None = None, **kwargs: Any
) -> nn.Module:
    """Build a classifier with random weights from torch's global generator.

    Args:
        name: ``convnet<depth>[-w<width>][-doubling][-bn|-in|-nonorm][-pad<padding>]``, ``resnetap<10|18>[-bn|-in]``, any
            architecture of timm (``timm/<name>`` too; a tag after a dot is left aside), or ``torchvision/<name>``, see
            :func:`ddoq.networks.torchvision_models.build_torchvision`.
        num_classes: Number of logits.
        image_size: Side of the square images in pixels. Vision transformers of timm are built for it.
        stem: ``small`` keeps the resolution in the first layers, for at most 64 pixels (ResNets, MobileNets,
            EfficientNets); None keeps the library's own.
        kwargs: Further arguments of the library's model, e.g. ``patch_size``.

    Returns:
        A module from normalised float images ``(n, 3, image_size, image_size)`` to logits ``(n, num_classes)``.
        Nothing is ever downloaded.

    Raises:
        UserError: If the name, an argument or the stem is unknown, or the images do not suit the network.

    Example:
        >>> network = build_network("convnet2-w8", num_classes=5, image_size=16)
        >>> network(torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 5])
    """
    for what, value in (("num_classes", num_classes), ("image_size", image_size)):
        if value < 1:
            raise UserError(f"{what} must be at least 1, not {value}.")
    if stem is not None and stem not in STEMS:
        raise UserError(f"Unknown stem {stem!r}. {suggest(stem, STEMS)}")
    library, plain = split_arch(name)
    if library == TORCHVISION:
        return build_torchvision(plain, num_classes, image_size, stem, kwargs)
    if library == TIMM:
        name = plain.partition(".")[0]
    elif _NATIVE.match(name):
        return _build_native(name, num_classes, image_size, stem, kwargs)
    network = _build_timm(name, num_classes, image_size, kwargs)
    if stem == "small":
        use_small_stem(network, name, image_size)
    _try_out(network, name, num_classes, image_size)
    return network


def draw_network(
    name: str, num_classes: int, image_size: int, *keys: int | str, seed: int, **kwargs: Any
) -> nn.Module:
    """Build a classifier whose weights depend on a seed and keys, whatever was drawn before.

    Torch's global generator is left as it was.

    Args:
        name: See :func:`build_network`.
        num_classes: Number of logits.
        image_size: Side of the square images in pixels.
        keys: What the network is for, e.g. a purpose and a step; see :func:`ddoq.seeding.derive_seed`.
        seed: The seed of the run.
        kwargs: Further arguments of :func:`build_network`.

    Returns:
        The network, on the CPU.

    Example:
        >>> first, again = (draw_network("convnet1-w4", 2, 8, "pool", 3, seed=0) for _ in range(2))
        >>> torch.equal(first.classifier.weight, again.classifier.weight)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *keys))
        return build_network(name, num_classes, image_size, **kwargs)


def _build_native(
    name: str, num_classes: int, image_size: int, stem: str | None, kwargs: dict[str, Any]
) -> nn.Module:
    is_convnet = name.startswith("convnet")
    if kwargs:
        example = "convnet3-w64-bn" if is_convnet else "resnetap10-bn"
        raise UserError(
            f"{name} takes no arguments, but got {_listed(kwargs)}: its name says everything, e.g. {example}."
        )
    if is_convnet:
        shape = parse_convnet(name)
        if stem is not None:
            raise UserError(f"{name} keeps the resolution as it is: leave `stem` out.")
        return ConvNet(shape, num_classes, image_size)
    if stem is not None:
        raise UserError(f"{name} chooses its stem by the size of the images: leave `stem` out.")
    return ResNetAP(parse_resnet_ap(name), num_classes, image_size)


def _listed(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in kwargs.items())


def _build_timm(name: str, num_classes: int, image_size: int, kwargs: dict[str, Any]) -> nn.Module:
    import timm  # takes a second or two: only where a network is asked for

    if not timm.is_model(name):
        names = timm.list_models()
        near = difflib.get_close_matches(name, names, n=3) or ["resnet18", "mobilenetv2_100"]
        raise UserError(
            f"No network is called {name!r}. Near it in timm: {', '.join(near)}. Valid: "
            f"{PATTERN}, resnetap<10|18>[-bn|-in], the {len(names)} architectures of timm.list_models(), and torchvision/<name>."
        )
    reserved = [key for key in kwargs if key in _RESERVED]
    if reserved:
        raise UserError(
            f"{name}: {', '.join(reserved)} cannot be set here; remove it from `kwargs`."
        )
    try:
        return _create(
            name, image_size, {"pretrained": False, "num_classes": num_classes, **kwargs}
        )
    except Exception as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown:
            raise UserError(
                f"{name} has no argument {unknown[1]!r}: remove it from `kwargs`."
            ) from None
        given = f" with {_listed(kwargs)}" if kwargs else ""
        raise UserError(
            f"{name} cannot be built{given} for {image_size} pixels: {error}"
        ) from error


def _create(name: str, image_size: int, arguments: dict[str, Any]) -> nn.Module:
    """Create a timm model, for the image size where it has such an argument (vision transformers have)."""
    import timm

    if "img_size" not in arguments:
        try:
            sized: nn.Module = timm.create_model(name, img_size=image_size, **arguments)
            return sized
        except TypeError as error:
            if "'img_size'" not in str(error):
                raise
    plain: nn.Module = timm.create_model(name, **arguments)
    return plain


def _try_out(network: nn.Module, name: str, num_classes: int, image_size: int) -> None:
    """Send one black image through, so that a mismatch shows here and not after minutes of distillation."""
    embedding = getattr(network, "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    pads = getattr(embedding, "dynamic_img_pad", False)
    if isinstance(patch, tuple) and not pads and any(image_size % side for side in patch):
        raise UserError(  # timm would silently ignore the pixels beyond the last whole patch
            f"{name} cuts images into patches of {patch[0]} pixels, which do not divide {image_size}: "
            "choose a patch_size in `kwargs` that does."
        )
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits: Tensor = network(torch.zeros(1, 3, image_size, image_size))
    except (AttributeError, TypeError, IndexError) as error:  # built of arguments that do not fit
        raise UserError(f"{name} cannot be used with its `kwargs`: {error}.") from error
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"{name} does not take images of {image_size} pixels ({error}). Choose another network, or for a "
            "vision transformer a patch_size in `kwargs` that divides the side."
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise UserError(
            f"{name} is no classifier of {num_classes} classes: choose another network."
        )
