"""The one crop, flip and shift that a whole batch shares in an iteration of SRe2L's recovery."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

# Aspect ratios of random resized crops: torchvision's default, which the official code leaves as it is.
_RATIO = (3 / 4, 4 / 3)


class Augmentation(NamedTuple):
    """What happens to every image of a batch in one iteration.

    Attributes:
        top: First row of the crop.
        left: First column of the crop.
        height: Rows of the crop.
        width: Columns of the crop.
        flip: Whether the crop is mirrored left to right.
        down: Rows that the result is rolled down by.
        right: Columns that the result is rolled to the right by.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    down: int
    right: int


def draw_augmentations(
    count: int,
    image_size: int,
    *,
    crop_scale: tuple[float, float] | None,
    flip: bool,
    jitter: int,
    generator: torch.Generator,
    crop_curriculum: float = 0.0,
) -> list[Augmentation]:
    """Draw the augmentations of all iterations at once.

    Args:
        count: Number of iterations.
        image_size: Side of the square images in pixels.
        crop_scale: Least and greatest share of the area that a crop keeps; None takes the whole image.
        flip: Whether half of the iterations mirror the images.
        jitter: Greatest shift in pixels; shifts are uniform on 0..jitter, both ends included.
        generator: CPU generator that decides everything.
        crop_curriculum: Share of the iterations during which the least share of the area falls from the greatest
            along a cosine (see :func:`least_scale`); 0 has it constant.

    Returns:
        One :class:`Augmentation` an iteration.

    Example:
        >>> draw_augmentations(1, 8, crop_scale=None, flip=False, jitter=0, generator=torch.Generator())
        [Augmentation(top=0, left=0, height=8, width=8, flip=False, down=0, right=0)]
    """
    shifts = torch.randint(jitter + 1, (count, 2), generator=generator).tolist()
    flips = torch.randint(2, (count,), generator=generator).bool() & flip
    crops = [(0, 0, image_size, image_size)] * count
    if crop_scale is not None:
        low, high = crop_scale
        scales = [(least_scale(i, count, low, high, crop_curriculum), high) for i in range(count)]
        crops = _draw_crops(image_size, scales, generator)
    rows = zip(crops, flips.tolist(), shifts, strict=True)
    return [Augmentation(*crop, flipped, *shift) for crop, flipped, shift in rows]


def least_scale(step: int, count: int, low: float, high: float, share: float) -> float:
    r"""Return the least share of the area that the crop of an iteration keeps, under CDA's curriculum.

    With :math:`T` iterations and a share :math:`m` of them that the curriculum lasts, it is

    .. math:: \mathrm{low} + \frac{\mathrm{high} - \mathrm{low}}{2} \left(1 + \cos \frac{\pi t}{m T}\right)

    while :math:`t < m T`, and low from then on.

    Source: Z. Yin and Z. Shen, *Dataset Distillation via Curriculum Data Synthesis in Large Data Era* (CDA), arXiv
    2311.18838; official code VILA-Lab/SRe2L, folder CDA, at 2e346ff (``easy2hard-mode`` cosine, ``milestone`` m, low
    0.08, high 1).

    Args:
        step: The iteration t, from 0.
        count: Number of iterations T.
        low: What it falls to.
        high: Where it starts.
        share: The share m, in [0, 1]; 0 has no curriculum.

    Returns:
        A share of the area.

    Example:
        >>> [round(least_scale(t, 4, 0.08, 1.0, 1.0), 3) for t in range(4)]
        [1.0, 0.865, 0.54, 0.215]
    """
    if step >= share * count:
        return low
    return low + (high - low) * (1 + math.cos(math.pi * step / (share * count))) / 2


def _draw_crops(
    image_size: int, scales: list[tuple[float, float]], generator: torch.Generator
) -> list[tuple[int, int, int, int]]:
    """Let torchvision draw (top, left, height, width) from our generator; it only knows the global one."""
    canvas = torch.empty(0, image_size, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        draw = v2.RandomResizedCrop.get_params
        return [tuple(draw(canvas, list(scale), list(_RATIO))) for scale in scales]


def augment(images: Tensor, step: Augmentation) -> Tensor:
    """Crop, resize back, mirror and roll a batch, every image alike; differentiable.

    Args:
        images: Float ``(n, c, s, s)``.
        step: What to do.

    Returns:
        Float ``(n, c, s, s)``.

    Example:
        >>> image = torch.arange(4.0).reshape(1, 1, 2, 2)
        >>> augment(image, Augmentation(0, 0, 2, 2, flip=True, down=1, right=0)).flatten().tolist()
        [3.0, 2.0, 1.0, 0.0]
    """
    size = images.shape[-1]
    if (step.height, step.width) != (size, size):
        crop = images[..., step.top : step.top + step.height, step.left : step.left + step.width]
        # Crops are never larger than the image, so there is nothing to antialias.
        images = tv.resize(crop, [size, size], antialias=False)
    if step.flip:
        images = images.flip(-1)
    if step.down or step.right:
        images = images.roll((step.down, step.right), (-2, -1))
    return images
