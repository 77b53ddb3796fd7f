"""The small ConvNets on which dataset distillation is usually compared."""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from ddoq.errors import UserError

PATTERN = "convnet<depth>[-w<width>][-bn|-in][-pad<padding>]"
_NAME = re.compile(
    r"convnet(?P<depth>[1-9]\d*)(-w(?P<width>[1-9]\d*))?(-(?P<norm>bn|in))?(-pad(?P<padding>[1-9]\d*))?"
)
_DEFAULT_WIDTH = 128  # Zhao et al., "Dataset Condensation with Gradient Matching" (2021)


@dataclass(frozen=True)
class ConvNetShape:
    """What the name of a ConvNet says.

    Attributes:
        depth: Number of blocks; each halves the side of the map.
        width: Channels of every block.
        norm: ``in`` for instance norm, ``bn`` for batch norm.
        padding: Of the first convolution. The field takes 3 at 28 pixels, so that the first map has 32.
    """

    depth: int
    width: int = _DEFAULT_WIDTH
    norm: str = "in"
    padding: int = 1


def parse_convnet(name: str) -> ConvNetShape:
    """Read the name of a ConvNet.

    Args:
        name: ``convnet<depth>[-w<width>][-bn|-in][-pad<padding>]``.

    Returns:
        Depth, width, norm and padding.

    Raises:
        UserError: If the name does not follow the pattern.

    Example:
        >>> parse_convnet("convnet3-w64-bn")
        ConvNetShape(depth=3, width=64, norm='bn', padding=1)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"{name!r} is no ConvNet: names follow {PATTERN}, "
            "e.g. convnet3, convnet4-w64 or convnet3-w64-bn."
        )
    width = int(match["width"] or _DEFAULT_WIDTH)
    return ConvNetShape(
        int(match["depth"]), width, match["norm"] or "in", int(match["padding"] or 1)
    )


def _block(channels: int, width: int, norm: str, padding: int) -> nn.Sequential:
    # Instance norm with learnt scale and shift, as one group per channel: the same function as
    # nn.InstanceNorm2d(affine=True), but it also takes maps of a single pixel.
    layer = nn.BatchNorm2d(width) if norm == "bn" else nn.GroupNorm(width, width)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=padding),
        layer,
        nn.ReLU(),
        nn.AvgPool2d(kernel_size=2),
    )


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer on the whole map.

    Structure and defaults are those of Zhao et al., "Dataset Condensation with Gradient Matching" (2021), which
    MTT and most later work share: "ConvNet-D3" has three blocks of 128 channels with instance norm, and
    320 010 parameters for ten classes at 32 x 32. A map whose side is odd loses its last row and column in pooling.

    Args:
        shape: Depth, width, norm and padding.
        num_classes: Number of logits.
        image_size: Side of the square images in pixels.
        channels: Channels of the images.

    Raises:
        UserError: If so many poolings would leave nothing of the map.

    Example:
        >>> import torch
        >>> network = ConvNet(parse_convnet("convnet3"), num_classes=10, image_size=32)
        >>> network(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in network.parameters())
        (torch.Size([2, 10]), 320010)
    """

    def __init__(
        self, shape: ConvNetShape, num_classes: int, image_size: int, channels: int = 3
    ) -> None:
        super().__init__()
        # A 3x3 convolution with padding 1 keeps the side; every further pixel of padding adds two.
        padded = image_size + 2 * (shape.padding - 1)
        side = padded >> shape.depth
        if side < 1:
            raise UserError(
                f"convnet{shape.depth} halves the map {shape.depth} times, which leaves nothing of {padded} "
                f"pixels: use at most convnet{padded.bit_length() - 1}."
            )
        first = _block(channels, shape.width, shape.norm, shape.padding)
        others = (_block(shape.width, shape.width, shape.norm, 1) for _ in range(shape.depth - 1))
        self.features = nn.Sequential(first, *others)
        self.classifier = nn.Linear(shape.width * side * side, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images ``(n, 3, h, w)`` to logits ``(n, num_classes)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
