"""ResNets that shrink their maps by average pooling: the other small standard of dataset distillation."""

import re
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.errors import UserError

_NAME = re.compile(r"resnetap(?P<depth>\d+)(-(?P<norm>bn|in))?")
_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2)}  # by depth; 18 as He et al. (2016), 10 as IDC
_WIDTHS = (64, 128, 256, 512)  # He et al. (2016)
_SMALLEST_IMAGE = 8  # three poolings of 2 leave one pixel


@dataclass(frozen=True)
class ResNetAPShape:
    """What the name of a ResNetAP says.

    Attributes:
        depth: 10 or 18.
        norm: ``in`` for instance norm, ``bn`` for batch norm.
    """

    depth: int
    norm: str = "in"


def parse_resnet_ap(name: str) -> ResNetAPShape:
    """Read the name of a ResNetAP.

    Args:
        name: ``resnetap<10|18>[-bn|-in]``.

    Returns:
        Depth and norm.

    Raises:
        UserError: If the name does not follow the pattern.

    Example:
        >>> parse_resnet_ap("resnetap10")
        ResNetAPShape(depth=10, norm='in')
    """
    match = _NAME.fullmatch(name)
    if match is None or int(match["depth"]) not in _BLOCKS:
        raise UserError(
            f"{name!r} is no ResNetAP: names follow resnetap<10|18>[-bn|-in], e.g. resnetap10 or resnetap18-bn."
        )
    return ResNetAPShape(int(match["depth"]), match["norm"] or "in")


def _norm(channels: int, norm: str) -> nn.Module:
    # One group per channel is instance norm with learnt scale and shift, as in ConvNet.
    return nn.BatchNorm2d(channels) if norm == "bn" else nn.GroupNorm(channels, channels)


def _conv(channels: int, width: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2, bias=False)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the map shrinks after the first one."""

    def __init__(self, channels: int, width: int, norm: str, reduction: int) -> None:
        super().__init__()
        pool = nn.AvgPool2d(reduction) if reduction > 1 else nn.Identity()
        self.residual = nn.Sequential(
            _conv(channels, width, 3),
            _norm(width, norm),
            nn.ReLU(),
            pool,
            _conv(width, width, 3),
            _norm(width, norm),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(_conv(channels, width, 1), pool, _norm(width, norm))

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.residual(maps) + self.shortcut(maps))


def _stem(image_size: int, norm: str) -> nn.Sequential:
    """Make the first layers for the size of the images, in the three kinds of IDC."""
    kernel_size, reduction = (3, 1) if image_size <= 64 else (3, 2) if image_size <= 128 else (7, 4)
    layers = [_conv(3, _WIDTHS[0], kernel_size), _norm(_WIDTHS[0], norm), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.AvgPool2d(reduction)] if reduction > 1 else []))


class ResNetAP(nn.Module):
    """A ResNet of basic blocks in which average pooling stands for every stride.

    The network of Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC, 2022), which
    Minimax Diffusion and others evaluate with: ResNetAP-10 has one block in each of four stages of 64 to 512 channels,
    instance norm, and 4 903 242 parameters for ten classes at 32 x 32. The stem keeps the resolution up to 64 pixels,
    halves it up to 128 and divides it by four above.

    Args:
        shape: Depth and norm.
        num_classes: Number of logits.
        image_size: Side of the square images in pixels.

    Raises:
        UserError: If the images are smaller than 8 pixels.

    Example:
        >>> import torch
        >>> network = ResNetAP(parse_resnet_ap("resnetap10"), num_classes=10, image_size=32)
        >>> network(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in network.parameters())
        (torch.Size([2, 10]), 4903242)
    """

    def __init__(self, shape: ResNetAPShape, num_classes: int, image_size: int) -> None:
        super().__init__()
        if image_size < _SMALLEST_IMAGE:
            raise UserError(
                f"resnetap{shape.depth} halves the map three times, which leaves nothing of {image_size} pixels: "
                f"it needs at least {_SMALLEST_IMAGE}."
            )
        blocks, channels = [], _WIDTHS[0]
        for stage, (count, width) in enumerate(zip(_BLOCKS[shape.depth], _WIDTHS, strict=True)):
            for position in range(count):
                reduction = 2 if stage > 0 and position == 0 else 1
                blocks.append(_Block(channels, width, shape.norm, reduction))
                channels = width
        self.stem = _stem(image_size, shape.norm)
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # He et al. (2015), as IDC and torchvision's ResNets
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images ``(n, 3, h, w)`` to logits ``(n, num_classes)``."""
        logits: Tensor = self.classifier(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits
