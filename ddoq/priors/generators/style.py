"""A small class-conditional style-based generator and its discriminator.

After T. Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, CVPR 2020 (a mapping network, modulated
and demodulated convolutions, noise in every block, the non-saturating loss with R1), at the sizes that two cores can train. One
style a block, features without skips to the output, so that it can be split before any block.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.errors import UserError
from ddoq.priors.generators.base import Generator, Latents, Split
from ddoq.seeding import generator_for

_SLOPE = 0.2  # of leaky ReLU, as there
_EPSILON = 1e-8
_LEAST_SIDE = (4, 8)  # the constant's side is in [4, 8)


@dataclass(frozen=True)
class StyleShape:
    """What decides the structure.

    Attributes:
        image_size: Side in pixels.
        num_classes: Number of classes.
        noise_width: Numbers that an image is drawn as.
        style_width: Numbers of a style.
        mapping_layers: Of the mapping network.
        channels: Of the blocks at full size; each block before has twice as many.
        max_channels: The most.
    """

    image_size: int
    num_classes: int
    noise_width: int = 64
    style_width: int = 64
    mapping_layers: int = 2
    channels: int = 32
    max_channels: int = 128

    def sides(self) -> list[int]:
        """List the sides of the maps of all blocks, doubling from 4 to 7 on to the images' side.

        Raises:
            UserError: If the size of the images cannot be reached so.

        Example:
            >>> StyleShape(28, 10).sides(), StyleShape(32, 10).sides()
            ([7, 14, 28], [4, 8, 16, 32])
        """
        side, sides = self.image_size, [self.image_size]
        while side >= _LEAST_SIDE[1] and side % 2 == 0:
            side //= 2
            sides.append(side)
        if not _LEAST_SIDE[0] <= side < _LEAST_SIDE[1]:
            raise UserError(
                f"A style-based generator makes images whose side is 4, 5, 6 or 7 times a power of 2, not {self.image_size} "
                "pixels: choose another data.init_args.image_size."
            )
        return sides[::-1]

    def widths(self) -> list[int]:
        """List the channels of all blocks."""
        count = len(self.sides())
        return [min(self.channels << (count - 1 - n), self.max_channels) for n in range(count)]

    def splits(self) -> tuple[Split, ...]:
        """List where it can be split: before the block of each side, and before the layer that makes colours."""
        sides, widths = self.sides(), self.widths()
        before = [(widths[0], sides[0]), *zip(widths[:-1], sides[:-1], strict=True)]
        blocks = [
            Split(f"b{side}", (width, old, old))
            for side, (width, old) in zip(sides, before, strict=True)
        ]
        return (*blocks, Split("rgb", (widths[-1], sides[-1], sides[-1])))


class ModulatedConv(nn.Module):
    """A convolution whose input channels a style scales, and whose output is scaled back to unit variance on average.

    Args:
        channels: Of the input.
        out: Of the output.
        style_width: Numbers of a style.
        kernel: Side of the kernel.
        demodulate: Whether the output is scaled back.
    """

    def __init__(
        self, channels: int, out: int, style_width: int, kernel: int = 3, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out, channels, kernel, kernel) / math.sqrt(channels * kernel**2)
        )
        self.bias = nn.Parameter(torch.zeros(out))
        self.affine = nn.Linear(style_width, channels)
        nn.init.normal_(self.affine.weight, std=1 / math.sqrt(style_width))
        nn.init.ones_(self.affine.bias)
        self.demodulate = demodulate

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Convolve features ``(n, channels, h, w)`` under styles ``(n, d)``, and add the bias."""
        scale = self.affine(style)
        made = F.conv2d(
            features * scale[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2
        )
        if self.demodulate:
            power = scale.square() @ self.weight.square().sum(dim=(2, 3)).T
            made = made * torch.rsqrt(power + _EPSILON)[:, :, None, None]
        return made + self.bias[:, None, None]


class StyleBlock(nn.Module):
    """Enlarges a map, unless it is the first, and convolves it under a style, with noise.

    Args:
        channels: Of the input.
        out: Of the output.
        side: Of the output.
        style_width: Numbers of a style.
        enlarge: Whether the side of the input is half as long.
        generator: Draws the noise that is used where none is given.
    """

    constant: Tensor

    def __init__(
        self,
        channels: int,
        out: int,
        side: int,
        style_width: int,
        enlarge: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.enlarge = enlarge
        widths = [(channels, out), (out, out)] if enlarge else [(channels, out)]
        self.convolutions = nn.ModuleList(ModulatedConv(a, b, style_width) for a, b in widths)
        self.strength = nn.Parameter(torch.zeros(len(widths)))
        noise = torch.randn(len(widths), side, side, generator=generator)
        self.register_buffer("constant", noise)

    def forward(self, features: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """Make the next map.

        Args:
            features: Float ``(n, channels, h, w)``.
            style: Float ``(n, d)``.
            noise: Float ``(n, convolutions, side, side)``; None takes the block's own, the same for all images.
        """
        if self.enlarge:
            features = F.interpolate(
                features, scale_factor=2.0, mode="bilinear", align_corners=False
            )
        noise = self.constant[None] if noise is None else noise
        strengths = self.strength.unbind()
        for number, convolution in enumerate(self.convolutions):
            made = convolution(features, style)
            made = made + strengths[number] * noise[:, number, None]
            features = F.leaky_relu(made, _SLOPE) * math.sqrt(2)
        return features


class StyleGenerator(Generator):
    """Maps numbers and a class to a style a block, and makes an image of a learned constant under these.

    Weights are drawn from torch's global generator, as any module's.

    Args:
        shape: The structure.
        seed: Decides the constant noise.
    """

    def __init__(self, shape: StyleShape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.image_size = shape.image_size
        self.num_classes = shape.num_classes
        sides, widths, width = shape.sides(), shape.widths(), shape.style_width
        self.classes = nn.Embedding(shape.num_classes, shape.noise_width)
        inner = [2 * shape.noise_width, *[width] * shape.mapping_layers]
        self.mapping = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(inner))
        self.constant = nn.Parameter(torch.randn(widths[0], sides[0], sides[0]))
        self.blocks = nn.ModuleList(
            StyleBlock(
                widths[max(number - 1, 0)],
                widths[number],
                side,
                width,
                number > 0,
                generator_for(seed, "style", "constant-noise", number),
            )
            for number, side in enumerate(sides)
        )
        self.colours = ModulatedConv(widths[-1], 3, width, kernel=1, demodulate=False)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Before the block of each side, and before the colours; see :meth:`StyleShape.splits`."""
        return self.shape.splits()

    def styles(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Map classes, int64 ``(n,)``, and numbers ``(n, noise_width)`` to styles ``(n, d)``."""
        known = torch.cat([_normed(noise), _normed(self.classes(labels))], dim=1)
        for layer in self.mapping:
            known = F.leaky_relu(layer(known), _SLOPE) * math.sqrt(2)
        return known

    def noise_shapes(self) -> list[tuple[int, ...]]:
        """List the shapes of the noise of one image, block by block, as :meth:`forward` takes it."""
        kinds = (block for block in self.blocks if isinstance(block, StyleBlock))
        return [tuple(block.constant.shape) for block in kinds]

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw the numbers of images, float ``(n, noise_width)``, each from its own generator."""
        drawn = [torch.randn(self.shape.noise_width, generator=each) for each in generators]
        return torch.stack(drawn).to(self.constant.device)

    @torch.no_grad()
    def begin(
        self, labels: Tensor, images: Tensor, generators: Sequence[torch.Generator]
    ) -> Latents:
        """Draw styles of the classes; features are the constant. The images are not looked at."""
        styles = self.styles(labels.to(self.constant.device), self.draw(generators))
        repeated = styles[:, None].repeat(1, len(self.splits), 1)
        return Latents(self.constant.expand(len(styles), -1, -1, -1).clone(), repeated)

    def layer(self, number: int, features: Tensor, style: Tensor | None) -> Tensor:
        """Send features through one block; see :meth:`Generator.layer`."""
        assert style is not None
        if number < len(self.blocks):
            made: Tensor = self.blocks[number](features, style)
            return made
        return self._coloured(features, style)

    def forward(self, labels: Tensor, numbers: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Make images as in training, with other noise for each.

        Args:
            labels: int64 ``(n,)``.
            numbers: Float ``(n, noise_width)``.
            noises: Of each block, float ``(n, convolutions, side, side)``.
        """
        style = self.styles(labels, numbers)
        features = self.constant.expand(len(style), -1, -1, -1)
        for block, noise in zip(self.blocks, noises, strict=True):
            features = block(features, style, noise)
        return self._coloured(features, style)

    def _coloured(self, features: Tensor, style: Tensor) -> Tensor:
        made: Tensor = self.colours(features, style)
        return made / 2 + 0.5


class Discriminator(nn.Module):
    """Says how real an image of a class looks: convolutions at the generator's sides, then a projection on the class.

    The deviation over the batch is one of its last channels; how a class enters is that of T. Miyato and M. Koyama, *cGANs
    with Projection Discriminator*, ICLR 2018.

    Args:
        shape: Of the generator.
    """

    def __init__(self, shape: StyleShape) -> None:
        super().__init__()
        sides, widths = shape.sides()[::-1], shape.widths()[::-1]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 1), nn.LeakyReLU(_SLOPE)]
        for number in range(len(sides) - 1):
            layers += [
                nn.Conv2d(widths[number], widths[number], 3, padding=1),
                nn.LeakyReLU(_SLOPE),
                nn.Conv2d(widths[number], widths[number + 1], 3, padding=1),
                nn.LeakyReLU(_SLOPE),
                nn.AvgPool2d(2),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.features = nn.Linear(widths[-1] * sides[-1] ** 2, shape.style_width)
        self.logit = nn.Linear(shape.style_width, 1)
        self.classes = nn.Embedding(shape.num_classes, shape.style_width)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Map images in [0, 1], float ``(n, 3, h, w)``, and classes to logits ``(n,)``."""
        maps = self.convolutions(images * 2 - 1)
        deviation = (maps.var(dim=0, unbiased=False) + _EPSILON).sqrt().mean()
        known = torch.cat([maps, deviation.expand(len(maps), 1, *maps.shape[2:])], dim=1)
        known = F.leaky_relu(self.last(known), _SLOPE).flatten(1)
        features = F.leaky_relu(self.features(known), _SLOPE)
        projected = (features * self.classes(labels)).sum(dim=1) / math.sqrt(features.shape[1])
        logits: Tensor = self.logit(features)[:, 0] + projected
        return logits


def _normed(numbers: Tensor) -> Tensor:
    return numbers * torch.rsqrt(numbers.square().mean(dim=1, keepdim=True) + _EPSILON)
