"""Batched augmentation on any device, with parameters of its own for every image.

All parameters of an epoch are drawn at once for the whole set, on the CPU, and indexed by the position of an
image. What happens to an image in an epoch therefore depends on the seed, the epoch and the image, and never on the
batch size, the order of the batches or the number of ranks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddoq.augmentation.colors import draw_jitter, draw_lighting, jitter
from ddoq.augmentation.mixing import (
    batch_numbers,
    cutmix,
    draw_boxes,
    draw_shares,
    mixup,
    permute_within,
)
from ddoq.augmentation.patches import draw_patches, shuffle_patches
from ddoq.augmentation.shifts import draw_shifts, shift_and_flip
from ddoq.images import to_float
from ddoq.seeding import generator_for

# torchvision gives up after as many draws that do not fit and takes the largest central crop.
_ATTEMPTS = 10


@dataclass(frozen=True)
class EpochAugmentation:
    """The parameters of one epoch, row i for image i of the set, or for the i-th draw of an image.

    Attributes:
        crops: int64 ``(n, 4)``: top, left, height, width in pixels.
        flips: bool ``(n,)``.
        partners: int64 ``(n,)``: the image that is mixed in; None without CutMix and MixUp.
        boxes: int64 ``(n, 4)``: left, top, right, bottom of what the partner covers, ends excluded; None where MixUp
            blends the two.
        lam: float32 ``(n,)``: share of the image in the mixture, with CutMix of the area and exact for the box; 1 without.
        patches: int64 ``(n, 2, f)``: orders of the rows and columns of a collage's patches; None without shuffling.
        jitter_factors: float32 ``(n, 3)``: of brightness, contrast and saturation; None without colour jitter.
        jitter_order: int64 ``(n, 3)``: which of them comes first, second and third.
        lighting: float32 ``(n, 3)``: what is added to red, green and blue; None without.
        jitter_clamp: Whether pixels are cut off at 0 and 1 after every change of colour.
        shown: int64 ``(n,)``: the image that row i is for, where images are drawn with repetition; None: image i.
        shifts: int64 ``(n, 2)``: rows and columns by which an image is moved in front of black; None without.
        pad: Largest shift in pixels.
    """

    crops: Tensor
    flips: Tensor
    partners: Tensor | None
    boxes: Tensor | None
    lam: Tensor
    patches: Tensor | None = None
    jitter_factors: Tensor | None = None
    jitter_order: Tensor | None = None
    lighting: Tensor | None = None
    jitter_clamp: bool = True
    shown: Tensor | None = None
    shifts: Tensor | None = None
    pad: int = 0

    def images_of(self, rows: Tensor) -> Tensor:
        """Return the images that rows are for, int64 as they are."""
        return rows if self.shown is None else self.shown[rows]

    def to(self, device: torch.device | str) -> "EpochAugmentation":
        """Copy to a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def draw_crops(
    n: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """Draw the boxes of random resized crops: area uniform, aspect ratio log-uniform, place uniform.

    The distribution is that of ``torchvision.transforms.v2.RandomResizedCrop``.

    Args:
        n: How many.
        size: Height and width of the images.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width over height.
        generator: CPU generator.

    Returns:
        int64 ``(n, 4)``: top, left, height, width.

    Example:
        >>> draw_crops(1, (8, 8), (1.0, 1.0), (1.0, 1.0), torch.Generator())
        tensor([[0, 0, 8, 8]])
    """
    height, width = size
    low, high = math.log(ratio[0]), math.log(ratio[1])
    draws = torch.rand(4, n, _ATTEMPTS, generator=generator, dtype=torch.float64)
    area = height * width * (scale[0] + draws[0] * (scale[1] - scale[0]))
    aspect = torch.exp(low + draws[1] * (high - low))
    widths = torch.round(torch.sqrt(area * aspect)).long()
    heights = torch.round(torch.sqrt(area / aspect)).long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    crop_width = widths.gather(1, first).squeeze(1)
    crop_height = heights.gather(1, first).squeeze(1)
    top = (draws[2, :, 0] * (height - crop_height + 1)).long()
    left = (draws[3, :, 0] * (width - crop_width + 1)).long()
    crops = torch.stack([top, left, crop_height, crop_width], dim=1)
    central = torch.tensor(_central_crop(height, width, ratio))
    return torch.where(fits.any(dim=1, keepdim=True), crops, central)


def _central_crop(height: int, width: int, ratio: tuple[float, float]) -> list[int]:
    """Return the largest central crop whose aspect ratio is allowed: top, left, height, width."""
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


def draw_epoch(
    n: int,
    size: tuple[int, int],
    *,
    seed: int,
    epoch: int,
    crop_scale: tuple[float, float] = (1.0, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = False,
    cutmix_alpha: float = 0.0,
    collage: int = 1,
    color_jitter: float = 0.0,
    pca_lighting: float = 0.0,
    jitter_clamp: bool = True,
    batches: Sequence[Tensor] | None = None,
    pad_crop: int = 0,
    mixup_alpha: float = 0.0,
) -> EpochAugmentation:
    """Draw all parameters of one epoch; each kind from a generator of its own.

    Args:
        n: Images in the set.
        size: Height and width of the images.
        seed: The seed of the student.
        epoch: Counts from 0.
        crop_scale: Smallest and largest share of the area that a crop keeps; (1, 1) crops nothing.
        crop_ratio: Smallest and largest width over height of a crop.
        flip: Whether half of the images are mirrored.
        cutmix_alpha: Parameter of CutMix; 0 mixes nothing.
        collage: Patches along a side of the images, whose rows and columns are shuffled; 1 shuffles nothing.
        color_jitter: Largest change of brightness, contrast and saturation; 0 changes nothing.
        pca_lighting: Standard deviation of the lighting noise; 0 adds none.
        jitter_clamp: Whether pixels are cut off at 0 and 1 after every change of colour.
        batches: int64 positions of every batch, all of the set together: CutMix then draws one box a batch, MixUp one
            share, and both partners within it.
        pad_crop: Pixels of black around an image out of which it is cropped; 0 moves nothing.
        mixup_alpha: Parameter of MixUp, in the place of CutMix; 0 blends nothing.

    Returns:
        The parameters, on the CPU. Partners are a random permutation of the whole set, or of each batch.

    Raises:
        ValueError: If both kinds of mixing or both kinds of crops are asked for.

    Example:
        >>> epoch = draw_epoch(2, (8, 8), seed=0, epoch=0)
        >>> epoch.crops.tolist(), epoch.flips.tolist(), epoch.partners
        ([[0, 0, 8, 8], [0, 0, 8, 8]], [False, False], None)
    """
    if cutmix_alpha != 0 and mixup_alpha != 0:
        raise ValueError("An image is mixed by CutMix or by MixUp, not by both.")
    if pad_crop > 0 and crop_scale != (1.0, 1.0):
        raise ValueError("An image is cropped out of black borders or resized, not both.")

    def generator(kind: str) -> torch.Generator:
        return generator_for(seed, "augment", epoch, kind)

    if crop_scale == (1.0, 1.0):
        crops = torch.tensor([0, 0, *size]).expand(n, 4)
    else:
        crops = draw_crops(n, size, crop_scale, crop_ratio, generator("crop"))
    flips = torch.rand(n, generator=generator("flip")) < (0.5 if flip else 0.0)
    still = EpochAugmentation(crops, flips, None, torch.zeros(n, 4).long(), torch.ones(n))
    drawn = _draw_mix(still, n, size, (cutmix_alpha, mixup_alpha), batches, generator)
    drawn = replace(drawn, jitter_clamp=jitter_clamp)
    if pad_crop > 0:
        shifts = draw_shifts(n, pad_crop, generator("shift"))
        drawn = replace(drawn, shifts=shifts, pad=pad_crop)
    if collage > 1:
        drawn = replace(drawn, patches=draw_patches(n, collage, generator("patches")))
    if color_jitter > 0:
        factors, order = draw_jitter(n, color_jitter, generator("jitter"))
        drawn = replace(drawn, jitter_factors=factors, jitter_order=order)
    if pca_lighting > 0:
        drawn = replace(drawn, lighting=draw_lighting(n, pca_lighting, generator("lighting")))
    return drawn


def _draw_mix(
    drawn: EpochAugmentation,
    n: int,
    size: tuple[int, int],
    alphas: tuple[float, float],
    batches: Sequence[Tensor] | None,
    generator: Callable[[str], torch.Generator],
) -> EpochAugmentation:
    """Draw partners, and what is taken of them, by the alphas of CutMix and MixUp: a box or a share."""
    cutmix_alpha, mixup_alpha = alphas
    if cutmix_alpha == 0 and mixup_alpha == 0:
        return drawn
    if batches is None:
        partners, of = torch.randperm(n, generator=generator("partner")), torch.arange(n)
    else:
        partners, of = permute_within(batches, generator("partner")), batch_numbers(batches)
    count = n if batches is None else len(batches)
    if cutmix_alpha != 0:
        boxes, lam = draw_boxes(count, size, cutmix_alpha, generator("box"))
        return replace(drawn, partners=partners, boxes=boxes[of], lam=lam[of])
    lam = draw_shares(count, mixup_alpha, generator("mixup")).float()
    return replace(drawn, partners=partners, boxes=None, lam=lam[of])


def crop_and_flip(images: Tensor, crops: Tensor, flips: Tensor) -> Tensor:
    """Cut a box out of every image, enlarge it to the image's size (bilinear), and mirror some.

    Values equal those of ``torchvision.transforms.v2.functional.resized_crop``; since a box is never larger
    than the image, antialiasing would change nothing.

    Args:
        images: float ``(n, c, h, w)``.
        crops: int64 ``(n, 4)``: top, left, height, width.
        flips: bool ``(n,)``.

    Returns:
        float ``(n, c, h, w)``.

    Example:
        >>> image = torch.arange(4.0).reshape(1, 1, 1, 4)
        >>> crop_and_flip(image, torch.tensor([[0, 0, 1, 4]]), torch.tensor([True])).flatten().tolist()
        [3.0, 2.0, 1.0, 0.0]
    """
    n, _, height, width = images.shape
    top, left, crop_height, crop_width = crops.to(images.dtype).unsqueeze(2).unbind(1)
    y = (torch.arange(height, device=images.device, dtype=images.dtype) + 0.5) / height
    x = (torch.arange(width, device=images.device, dtype=images.dtype) + 0.5) / width
    x = torch.where(flips.unsqueeze(1), 1 - x, x)
    # Clamped to the box: the border of a crop must not look at pixels outside it.
    rows = (top + y * crop_height - 0.5).clamp(top, top + crop_height - 1)
    columns = (left + x * crop_width - 0.5).clamp(left, left + crop_width - 1)
    rows, columns = (2 * rows + 1) / height - 1, (2 * columns + 1) / width - 1
    grid = torch.stack(
        [
            columns.unsqueeze(1).expand(n, height, width),
            rows.unsqueeze(2).expand(n, height, width),
        ],
        dim=3,
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def augment(images: Tensor, positions: Tensor, epoch: EpochAugmentation) -> Tensor:
    """Make the training images of a batch.

    A partner is augmented by its own parameters before it is mixed in.

    Args:
        images: ``(n, c, h, w)``: the whole set, uint8 pixels or float of any space (colours change in [0, 1] alone).
        positions: int64 ``(b,)``: which images of it, or which draws of the epoch.
        epoch: The parameters of the epoch, on the same device.

    Returns:
        float32 ``(b, c, h, w)``: uint8 pixels in [0, 1], with lighting noise a little beyond; others as they were.

    Example:
        >>> images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
        >>> augment(images, torch.tensor([1]), draw_epoch(2, (4, 4), seed=0, epoch=0)).mean().item()
        1.0
    """
    if epoch.partners is None:
        return _single(images, positions, epoch)
    both = _single(images, torch.cat([positions, epoch.partners[positions]]), epoch)
    originals, partners = both.chunk(2)
    if epoch.boxes is None:
        return mixup(originals, partners, epoch.lam[positions])
    return cutmix(originals, partners, epoch.boxes[positions])


def _single(images: Tensor, positions: Tensor, epoch: EpochAugmentation) -> Tensor:
    """Shuffle patches, crop, mirror and recolour, in this order (RDED's, IDC's)."""
    pixels = images[epoch.images_of(positions)]
    if epoch.patches is not None:
        pixels = shuffle_patches(pixels, epoch.patches[positions])
    if pixels.dtype == torch.uint8:
        pixels = to_float(pixels)
    flips = epoch.flips[positions]
    if epoch.shifts is None:
        pixels = crop_and_flip(pixels, epoch.crops[positions], flips)
    else:  # nothing is enlarged, so that pixels stay as they are
        pixels = shift_and_flip(pixels, epoch.shifts[positions], flips, epoch.pad)
    if epoch.jitter_factors is not None and epoch.jitter_order is not None:
        factors, order = epoch.jitter_factors[positions], epoch.jitter_order[positions]
        pixels = jitter(pixels, factors, order, clamp=epoch.jitter_clamp)
    if epoch.lighting is not None:
        pixels = pixels + epoch.lighting[positions, :, None, None]
    return pixels
