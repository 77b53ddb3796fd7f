r"""Differentiable Siamese augmentation (DSA): one small change of a batch, through which gradients flow.

A strategy such as ``color_crop_cutout_flip_scale_rotate`` lists kinds of change. Every row of parameters picks one of
them and its strength. One row serves a whole batch: given to the real and to the synthetic batch, both see the same
change, which makes it Siamese. One row an image serves the training of students.

Images keep the space they are in. The authors augment *normalised* images: there a pixel outside the image is 0, hence
the mean colour, and brightness moves by up to half a standard deviation. :func:`augment_pixels` does the same to images
in [0, 1].

Source: B. Zhao and H. Bilen, *Dataset Condensation with Differentiable Siamese Augmentation*, ICML 2021; constants from
the official repository VICO-UoE/DatasetCondensation at 53f63a6.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.seeding import generator_for

FULL_STRATEGY = "color_crop_cutout_flip_scale_rotate"

_MIRROR_SHARE = 0.5
_SHIFT_SHARE = 0.125  # of the side that is padded before a crop
_HOLE_SHARE = 0.5  # of the side that cutout blanks
_LARGEST_SCALE = 1.2
_LARGEST_ANGLE = math.radians(15)


@dataclass(frozen=True)
class SiameseParameters:
    """What is done to images: row i to image i, or a single row to all of them.

    Attributes:
        kinds: The kinds that occur; others cost nothing.
        picks: int64 ``(n,)``: which of ``kinds`` a row does.
        colors: float32 ``(n, 3)``: what is added (brightness), and the factors of the deviation from the pixel's mean
            over channels (saturation) and from the image's mean (contrast).
        shifts: int64 ``(n, 2)``: by how many pixels a crop looks further down and to the right.
        holes: int64 ``(n, 4)``: top, left, bottom, right of what cutout blanks, ends excluded.
        flips: bool ``(n,)``: whether ``flip`` mirrors; half of its rows do nothing.
        scales: float32 ``(n, 2)``: steps along x and y between the points that are looked at; below 1 enlarges.
        angles: float32 ``(n,)``: in radians.
    """

    kinds: tuple[str, ...]
    picks: Tensor
    colors: Tensor
    shifts: Tensor
    holes: Tensor
    flips: Tensor
    scales: Tensor
    angles: Tensor

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.picks)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "SiameseParameters":
        values: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if k != "kinds"}
        return replace(self, **values)

    def rows(self, positions: Tensor) -> "SiameseParameters":
        """Take the rows of some images, int64 ``(b,)``, on the same device."""
        return self._mapped(lambda value: value[positions])

    def to(self, device: torch.device | str) -> "SiameseParameters":
        """Copy to a device."""
        return self._mapped(lambda value: value.to(device, non_blocking=True))


def parse_strategy(strategy: str, *, flip: bool = True) -> tuple[str, ...]:
    """Read a strategy.

    Args:
        strategy: Kinds joined by underscores; ``none`` for no augmentation.
        flip: Whether mirrored images keep their class; ``flip`` is left out where they do not (digits).

    Returns:
        The kinds; empty for none.

    Raises:
        UserError: If a kind is unknown or occurs twice.

    Example:
        >>> parse_strategy("color_flip", flip=False)
        ('color',)
    """
    if strategy == "none":
        return ()
    kinds = strategy.split("_")
    for kind in kinds:
        if kind not in _CHANGES:
            raise UserError(
                f"The augmentation strategy {strategy!r} has no kind {kind!r}. {suggest(kind, _CHANGES)} "
                f"Join kinds by underscores, e.g. {FULL_STRATEGY}, or write none."
            )
        if kinds.count(kind) > 1:
            raise UserError(f"The augmentation strategy {strategy!r} names {kind!r} twice.")
    return tuple(kind for kind in kinds if flip or kind != "flip")


def draw_siamese(
    n: int, size: tuple[int, int], kinds: Sequence[str], generator: torch.Generator
) -> SiameseParameters:
    """Draw rows of parameters: 1 for a pair of batches, as many as images for training.

    All strengths are drawn whatever the kinds are, so that two strategies differ in their picks alone.

    Args:
        n: How many rows.
        size: Height and width of the images.
        kinds: What :func:`parse_strategy` returned, at least one.
        generator: CPU generator.

    Returns:
        The parameters, on the CPU.

    Example:
        >>> drawn = draw_siamese(1, (8, 8), ("crop", "flip"), torch.Generator().manual_seed(0))
        >>> len(drawn), bool((drawn.shifts.abs() <= 1).all())
        (1, True)
    """
    u = torch.rand(n, 12, generator=generator, dtype=torch.float64)
    height, width = size
    reach = torch.tensor([_rounded(_SHIFT_SHARE * height), _rounded(_SHIFT_SHARE * width)])
    hole = torch.tensor([_rounded(_HOLE_SHARE * height), _rounded(_HOLE_SHARE * width)])
    sides = torch.tensor(size)
    # An even hole may be centred on either side of every pixel, so that there is one place more.
    corners = (u[:, 3:5] * (sides + 1 - hole % 2)).long() - hole // 2
    drawn = SiameseParameters(
        kinds=tuple(kinds),
        picks=(u[:, 0] * len(kinds)).long(),
        colors=(u[:, 5:8] * torch.tensor([1.0, 2.0, 1.0]) + torch.tensor([-0.5, 0.0, 0.5])).float(),
        shifts=(u[:, 1:3] * (2 * reach + 1)).long() - reach,
        holes=torch.cat([corners.clamp(min=0), (corners + hole).minimum(sides)], dim=1),
        flips=u[:, 8] < _MIRROR_SHARE,
        scales=(1 / _LARGEST_SCALE + u[:, 9:11] * (_LARGEST_SCALE - 1 / _LARGEST_SCALE)).float(),
        angles=((2 * u[:, 11] - 1) * _LARGEST_ANGLE).float(),
    )
    present = sorted(set(drawn.picks.tolist()))
    renumbered = torch.searchsorted(torch.tensor(present, dtype=torch.int64), drawn.picks)
    return replace(drawn, kinds=tuple(kinds[i] for i in present), picks=renumbered)


def draw_siamese_batch(
    n: int, size: tuple[int, int], kinds: Sequence[str], generator: torch.Generator
) -> SiameseParameters:
    """Draw one kind for a whole batch, and its strength for every image, as methods that match trajectories do.

    Args:
        n: Images in the batch.
        size: Height and width of the images.
        kinds: What :func:`parse_strategy` returned, at least one.
        generator: CPU generator.

    Returns:
        The parameters, on the CPU.

    Example:
        >>> drawn = draw_siamese_batch(5, (8, 8), ("color", "crop"), torch.Generator().manual_seed(0))
        >>> len(drawn), len(drawn.kinds)
        (5, 1)
    """
    pick = int(torch.randint(len(kinds), (), generator=generator))
    return draw_siamese(n, size, (kinds[pick],), generator)


def draw_siamese_epoch(
    n: int, size: tuple[int, int], kinds: Sequence[str], *, seed: int, epoch: int
) -> SiameseParameters:
    """Draw a row for every image of a set: what happens to an image depends on seed, epoch and image alone.

    The authors pick one kind for a whole training batch. Here every image picks its own, which is the same on average
    and does not depend on batches.

    Args:
        n: Images in the set.
        size: Height and width of the images.
        kinds: What :func:`parse_strategy` returned, at least one.
        seed: The seed of the student.
        epoch: Counts from 0.

    Returns:
        The parameters, on the CPU.

    Example:
        >>> len(draw_siamese_epoch(5, (8, 8), ("color",), seed=0, epoch=3))
        5
    """
    return draw_siamese(n, size, kinds, generator_for(seed, "augment", epoch, "siamese"))


def augment_siamese(images: Tensor, parameters: SiameseParameters) -> Tensor:
    """Change every image by its row, or all of them by the only row.

    Args:
        images: float ``(n, c, h, w)``, in any space; gradients flow through.
        parameters: n rows or 1, drawn for images of this size, on the same device.

    Returns:
        float ``(n, c, h, w)``.

    Example:
        >>> images = torch.rand(4, 3, 8, 8)
        >>> shared = draw_siamese(1, (8, 8), ("color", "crop"), torch.Generator().manual_seed(1))
        >>> augment_siamese(images, shared).shape
        torch.Size([4, 3, 8, 8])
    """
    if len(parameters.kinds) == 1:
        return _CHANGES[parameters.kinds[0]](images, parameters)
    result = images
    for number, kind in enumerate(parameters.kinds):
        # Every image is changed once only: what other kinds make of it is not taken over.
        changed = _CHANGES[kind](images, parameters)
        result = torch.where((parameters.picks == number).reshape(-1, 1, 1, 1), changed, result)
    return result


def augment_pixels(
    images: Tensor, parameters: SiameseParameters, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Augment images in [0, 1] as if they were normalised.

    Args:
        images: float ``(n, c, h, w)`` in [0, 1].
        parameters: n rows or 1.
        mean: Channel means that networks subtract.
        std: Channel standard deviations that networks divide by.

    Returns:
        float ``(n, c, h, w)``, which may leave [0, 1]: normalised, it is what the authors' networks see.

    Example:
        >>> shifted = replace(
        ...     draw_siamese(1, (8, 8), ("crop",), torch.Generator()), shifts=torch.tensor([[8, 0]])
        ... )
        >>> augment_pixels(torch.ones(1, 1, 8, 8), shifted, [0.25], [0.5]).unique()
        tensor([0.2500])
    """
    means, stds = (images.new_tensor(values).reshape(-1, 1, 1) for values in (mean, std))
    return augment_siamese((images - means) / stds, parameters) * stds + means


def _rounded(value: float) -> int:
    return int(value + 0.5)


def _color(images: Tensor, parameters: SiameseParameters) -> Tensor:
    """Change brightness, saturation and contrast, in this order."""
    brightness, saturation, contrast = (
        parameters.colors.to(images.dtype).reshape(-1, 3, 1, 1, 1).unbind(1)
    )
    images = images + brightness
    gray = images.mean(dim=1, keepdim=True)
    images = gray + saturation * (images - gray)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + contrast * (images - mean)


def _crop(images: Tensor, parameters: SiameseParameters) -> Tensor:
    """Look at a shifted window of the image on a ground of zeros."""
    n, _, height, width = images.shape
    y, x = parameters.shifts.unsqueeze(2).unbind(1)
    rows = torch.arange(height, device=images.device) + y
    columns = torch.arange(width, device=images.device) + x
    inside = _in_range(rows, height).unsqueeze(2) & _in_range(columns, width).unsqueeze(1)
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    picked = images.gather(2, rows.reshape(-1, 1, height, 1).expand_as(images))
    picked = picked.gather(3, columns.reshape(-1, 1, 1, width).expand(n, *picked.shape[1:]))
    return torch.where(inside.unsqueeze(1), picked, torch.zeros_like(picked))


def _in_range(values: Tensor, end: int) -> Tensor:
    return (values >= 0) & (values < end)


def _cutout(images: Tensor, parameters: SiameseParameters) -> Tensor:
    """Blank a box."""
    top, left, bottom, right = parameters.holes.unsqueeze(2).unbind(1)
    y = torch.arange(images.shape[2], device=images.device)
    x = torch.arange(images.shape[3], device=images.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    return torch.where(inside, torch.zeros_like(images), images)


def _flip(images: Tensor, parameters: SiameseParameters) -> Tensor:
    return torch.where(parameters.flips.reshape(-1, 1, 1, 1), images.flip(3), images)


def _scale(images: Tensor, parameters: SiameseParameters) -> Tensor:
    scales = parameters.scales.to(images.dtype)
    return _resample(images, torch.diag_embed(scales))


def _rotate(images: Tensor, parameters: SiameseParameters) -> Tensor:
    angles = parameters.angles.to(images.dtype)
    cosine, sine = angles.cos(), angles.sin()
    rows = [torch.stack([cosine, -sine], dim=1), torch.stack([sine, cosine], dim=1)]
    return _resample(images, torch.stack(rows, dim=1))


def _resample(images: Tensor, matrices: Tensor) -> Tensor:
    """Look at points that a matrix ``(n, 2, 2)`` moves about the centre; bilinear, zeros outside."""
    theta = F.pad(matrices, (0, 1)).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


_CHANGES: dict[str, Callable[[Tensor, SiameseParameters], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
    "translate": _crop,  # a name that FRePo has beside `crop`; the share of the side is taken to be the same
}
