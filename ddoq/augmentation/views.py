"""Two views of every image, as self-supervised training compares them: parameters of their own for every image.

All parameters of an epoch are drawn at once, on the CPU, so that a view depends on the seed, the epoch and the image alone.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.augmentation.colors import draw_jitter, jitter
from ddoq.augmentation.epochs import crop_and_flip, draw_crops
from ddoq.seeding import generator_for

_RATIO = (3 / 4, 4 / 3)  # of crops, width over height: torchvision's default
_SIGMAS = (0.1, 2.0)  # of blurring, in pixels; those of BYOL, which Barlow Twins takes over
_REACH = 3.0  # standard deviations at which a Gaussian is cut off
_SOLARISED_FROM = 0.5  # pixels in [0, 1]; 128 of 255 there


@dataclass(frozen=True)
class ViewSettings:
    """How one of the two views is made; probabilities are those of an image.

    Attributes:
        crop_scale: Smallest and largest share of the area that a crop keeps.
        flip: Probability of mirroring.
        jitter: Largest changes of brightness, contrast, saturation and hue; hue in turns of the colour circle.
        jitter_chance: Probability that colours change.
        grey: Probability of losing all colour.
        blur: Probability of blurring.
        solarise: Probability that bright pixels are inverted.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_chance: float = 0.8
    grey: float = 0.2
    blur: float = 0.0
    solarise: float = 0.0


@dataclass(frozen=True)
class Views:
    """The parameters of one view, row i for image i of the split.

    Attributes:
        crops: int64 ``(n, 4)``: top, left, height, width.
        flips: bool ``(n,)``.
        factors: float32 ``(n, 3)``: of brightness, contrast and saturation; 1 where colours stay.
        order: int64 ``(n, 3)``: which of them comes first, second and third.
        hue: float32 ``(n,)``: turns of the colour circle, 0 where colours stay.
        grey: bool ``(n,)``.
        sigma: float32 ``(n,)``: of the Gaussian, in pixels; 0 where nothing is blurred.
        solarised: bool ``(n,)``.
    """

    crops: Tensor
    flips: Tensor
    factors: Tensor
    order: Tensor
    hue: Tensor
    grey: Tensor
    sigma: Tensor
    solarised: Tensor

    def to(self, device: torch.device | str) -> "Views":
        """Copy to a device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})

    def rows(self, positions: Tensor) -> "Views":
        """Take the parameters of some images, int64 ``(b,)``."""
        return replace(self, **{name: value[positions] for name, value in vars(self).items()})


def draw_views(
    n: int, size: tuple[int, int], settings: ViewSettings, *, seed: int, epoch: int, view: int
) -> Views:
    """Draw the parameters of one view of all images in an epoch; each kind from a generator of its own.

    Args:
        n: Images in the split.
        size: Height and width of the images.
        settings: How the view is made.
        seed: The seed of the training.
        epoch: Counts from 0.
        view: 0 or 1.

    Example:
        >>> still = ViewSettings((1.0, 1.0), 0.0, (0.0,) * 4, 0.0, 0.0)
        >>> views = draw_views(2, (8, 8), still, seed=0, epoch=0, view=0)
        >>> views.hue.abs().tolist(), views.sigma.tolist(), views.grey.any().item()
        ([0.0, 0.0], [0.0, 0.0], False)
    """

    def generator(kind: str) -> torch.Generator:
        return generator_for(seed, "views", epoch, view, kind)

    def chosen(kind: str, chance: float) -> Tensor:
        return torch.rand(n, generator=generator(f"{kind}?")) < chance

    if settings.crop_scale == (1.0, 1.0):  # a part of another shape has a smaller area
        crops = torch.tensor([0, 0, *size]).repeat(n, 1)
    else:
        crops = draw_crops(n, size, settings.crop_scale, _RATIO, generator("crop"))
    recoloured = chosen("jitter", settings.jitter_chance)
    drawn, order = draw_jitter(n, 1.0, generator("jitter"))
    strengths = torch.tensor(settings.jitter[:3]) * recoloured[:, None]
    turns = 2 * torch.rand(n, generator=generator("hue")) - 1
    low, high = _SIGMAS
    sigma = low + (high - low) * torch.rand(n, generator=generator("blur"))
    return Views(
        crops=crops,
        flips=chosen("flip", settings.flip),
        factors=1 + strengths * (drawn - 1),
        order=order,
        hue=settings.jitter[3] * turns * recoloured,
        grey=chosen("grey", settings.grey),
        sigma=sigma * chosen("blur", settings.blur),
        solarised=chosen("solarise", settings.solarise),
    )


def make_view(images: Tensor, views: Views) -> Tensor:
    """Make one view of a batch: crop and mirror, change colours, grey, blur, invert what is bright.

    Args:
        images: Float ``(b, 3, h, w)`` in [0, 1].
        views: The parameters of these images, on the same device.

    Returns:
        Float ``(b, 3, h, w)`` in [0, 1].
    """
    seen = crop_and_flip(images, views.crops, views.flips)
    seen = turn_hue(jitter(seen, views.factors, views.order), views.hue)
    seen = torch.where(_each(views.grey), tv.rgb_to_grayscale(seen, num_output_channels=3), seen)
    if bool((views.sigma > 0).any()):
        seen = torch.where(_each(views.sigma > 0), blur(seen, views.sigma), seen)
    return torch.where(_each(views.solarised), tv.solarize(seen, _SOLARISED_FROM), seen)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    r"""Turn the colours of every image about the axis of greys, by an angle of its own.

    A linear stand-in for the hue of HSV, which libraries turn by one angle for a whole batch: greys stay as they are,
    a third of a turn makes red of green, green of blue and blue of red.

    Args:
        images: Float ``(b, 3, h, w)`` in [0, 1].
        turns: Float ``(b,)``: turns of the colour circle, in [-0.5, 0.5].

    Returns:
        Float ``(b, 3, h, w)``, cut off at 0 and 1.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
        >>> turn_hue(red, torch.tensor([1 / 3])).flatten().round(decimals=3)
        tensor([0., 1., 0.])
    """
    angle = (2 * math.pi * turns).reshape(-1, 1, 1)
    whole, identity = images.new_full((3, 3), 1 / 3), torch.eye(3).to(images)
    # The cross product with the axis (1, 1, 1) / sqrt(3): Rodrigues' formula.
    across = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turned = angle.cos() * identity + (1 - angle.cos()) * whole + angle.sin() * across
    return torch.einsum("bij,bjhw->bihw", turned, images).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur every image by a Gaussian of its own; borders are mirrored.

    Values equal those of torchvision's ``gaussian_blur``, which takes one Gaussian for a whole batch.

    Args:
        images: Float ``(b, c, h, w)``.
        sigma: Float ``(b,)``: standard deviations in pixels, at most 2; 0 blurs nothing.

    Returns:
        Float ``(b, c, h, w)``.

    Example:
        >>> blur(torch.ones(1, 1, 8, 8), torch.tensor([2.0])).mean().round(decimals=4)
        tensor(1.)
    """
    b, c, height, width = images.shape
    reach = min(math.ceil(_REACH * _SIGMAS[1]), height - 1, width - 1)
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(c, dim=0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").reshape(1, b * c, height + 2 * reach, -1)
    rows = F.conv2d(padded, kernel[:, None, :, None], groups=b * c)
    return F.conv2d(rows, kernel[:, None, None, :], groups=b * c).reshape(b, c, height, width)


def _each(flags: Tensor) -> Tensor:
    return flags.reshape(-1, 1, 1, 1)
