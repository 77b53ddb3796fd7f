"""The small ConvNets on which dataset distillation is usually compared."""

import itertools
import re
from dataclasses import dataclass

from torch import Tensor, nn

from ddoq.errors import UserError

PATTERN = "convnet<depth>[-w<width>][-doubling][-bn|-in|-nonorm][-pad<padding>]"
_NAME = re.compile(
    r"convnet(?P<depth>[1-9]\d*)(-w(?P<width>[1-9]\d*))?(?P<doubling>-doubling)?(-(?P<norm>bn|in|nonorm))?"
    r"(-pad(?P<padding>[1-9]\d*))?"
)
_DEFAULT_WIDTH = 128  # Zhao et al., "Dataset Condensation with Gradient Matching" (2021)


@dataclass(frozen=True)
class ConvNetShape:
    """What the name of a ConvNet says.

    Attributes:
        depth: Number of blocks; each halves the side of the map.
        width: Channels of every block, or of the first one.
        norm: ``in`` for instance norm, ``bn`` for batch norm, ``nonorm`` for none.
        padding: Of the first convolution. The field takes 3 at 28 pixels, so that the first map has 32.
        doubling: Whether every block has twice the channels of the one before, and its norm before its convolution, the
            first block none at all: the network of FRePo (Zhou et al., 2022).
    """

    depth: int
    width: int = _DEFAULT_WIDTH
    norm: str = "in"
    padding: int = 1
    doubling: bool = False

    def widths(self) -> list[int]:
        """Return the channels of all blocks."""
        return [self.width << (block if self.doubling else 0) for block in range(self.depth)]

    def without_norm(self) -> str:
        """Name the same network without any norm.

        Example:
            >>> parse_convnet("convnet3-w64-doubling-bn").without_norm()
            'convnet3-w64-doubling-nonorm'
        """
        width = "" if self.width == _DEFAULT_WIDTH else f"-w{self.width}"
        padding = "" if self.padding == 1 else f"-pad{self.padding}"
        return f"convnet{self.depth}{width}{'-doubling' if self.doubling else ''}-nonorm{padding}"


def parse_convnet(name: str) -> ConvNetShape:
    """Read the name of a ConvNet.

    Args:
        name: ``convnet<depth>[-w<width>][-doubling][-bn|-in|-nonorm][-pad<padding>]``.

    Returns:
        Depth, width, norm, padding, and whether widths double.

    Raises:
        UserError: If the name does not follow the pattern.

    Example:
        >>> parse_convnet("convnet3-w64-bn")
        ConvNetShape(depth=3, width=64, norm='bn', padding=1, doubling=False)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"{name!r} is no ConvNet: names follow {PATTERN}, "
            "e.g. convnet3, convnet4-w64 or convnet3-w64-bn."
        )
    width = int(match["width"] or _DEFAULT_WIDTH)
    padding = int(match["padding"] or 1)
    norm = match["norm"] or "in"
    return ConvNetShape(int(match["depth"]), width, norm, padding, bool(match["doubling"]))


def _norm(norm: str, channels: int) -> list[nn.Module]:
    if norm == "nonorm":
        return []
    # Instance norm with learnt scale and shift, as one group per channel: the same function as
    # nn.InstanceNorm2d(affine=True), but it also takes maps of a single pixel.
    return [nn.BatchNorm2d(channels) if norm == "bn" else nn.GroupNorm(channels, channels)]


def _block(shape: ConvNetShape, channels: int, width: int, padding: int) -> nn.Sequential:
    """Build a block from maps of so many channels to maps of another number of them."""
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=padding)
    ending = (nn.ReLU(), nn.AvgPool2d(kernel_size=2))
    if not shape.doubling:
        return nn.Sequential(convolution, *_norm(shape.norm, width), *ending)
    before = [] if width == shape.width else _norm(shape.norm, channels)
    return nn.Sequential(*before, convolution, *ending)


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer on the whole map.

    Structure and defaults are those of Zhao et al., "Dataset Condensation with Gradient Matching" (2021), which
    MTT and most later work share: "ConvNet-D3" has three blocks of 128 channels with instance norm, and
    320 010 parameters for ten classes at 32 x 32. A map whose side is odd loses its last row and column in pooling.

    With ``doubling`` it is the network of FRePo, see :class:`ConvNetShape`: 1 560 842 parameters there, without norm.

    Args:
        shape: What its name says.
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
        widths = shape.widths()
        first = _block(shape, channels, widths[0], shape.padding)
        others = (_block(shape, a, b, 1) for a, b in itertools.pairwise(widths))
        self.features = nn.Sequential(first, *others)
        self.classifier = nn.Linear(widths[-1] * side * side, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images ``(n, 3, h, w)`` to logits ``(n, num_classes)``."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits
