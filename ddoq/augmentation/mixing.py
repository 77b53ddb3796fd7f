"""Mixing every image with another one: CutMix (Yun et al., 2019) pastes a box of it, MixUp (Zhang et al., 2018) blends it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def draw_shares(n: int, alpha: float, generator: torch.Generator) -> Tensor:
    r"""Draw what images keep of themselves, :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`, one share per image.

    Args:
        n: How many.
        alpha: Parameter of the Beta distribution, above 0.
        generator: CPU generator.

    Returns:
        float64 ``(n,)`` in [0, 1].

    Example:
        >>> shares = draw_shares(1000, 0.8, torch.Generator().manual_seed(0))
        >>> bool(abs(shares.mean() - 0.5) < 0.05)
        True
    """
    # torch's Beta distribution takes no generator, so that NumPy draws, from a seed that torch drew.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, size=n))


def draw_boxes(
    n: int, size: tuple[int, int], alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    r"""Draw the boxes of CutMix (Yun et al., 2019), one per image.

    The share to keep is :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`; the box has sides
    :math:`\sqrt{1 - \lambda}` times the image's, its centre is uniform, and what sticks out is cut off.

    Args:
        n: How many.
        size: Height and width of the images.
        alpha: Parameter of the Beta distribution, above 0.
        generator: CPU generator.

    Returns:
        int64 ``(n, 4)``: left, top, right, bottom; and float32 ``(n,)``: the share truly kept.

    Example:
        >>> boxes, lam = draw_boxes(3, (8, 8), 1.0, torch.Generator().manual_seed(0))
        >>> area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        >>> bool((lam == 1 - area / 64).all())
        True
    """
    height, width = size
    share = draw_shares(n, alpha, generator)
    half = 0.5 * torch.sqrt(1 - share)
    half_width, half_height = (half * width).long(), (half * height).long()
    x = torch.randint(width, (n,), generator=generator)
    y = torch.randint(height, (n,), generator=generator)
    left, right = (x - half_width).clamp(min=0), (x + half_width).clamp(max=width)
    top, bottom = (y - half_height).clamp(min=0), (y + half_height).clamp(max=height)
    covered = (right - left) * (bottom - top)
    return torch.stack([left, top, right, bottom], dim=1), 1 - covered.float() / (height * width)


def permute_within(batches: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Draw a partner of the same batch for every image: a permutation of each batch.

    Args:
        batches: int64 positions of every batch; together they are 0 to n - 1.
        generator: CPU generator.

    Returns:
        int64 ``(n,)``.

    Example:
        >>> permute_within([torch.tensor([1]), torch.tensor([0])], torch.Generator()).tolist()
        [0, 1]
    """
    partners = torch.empty(sum(len(batch) for batch in batches), dtype=torch.int64)
    for batch in batches:
        partners[batch] = batch[torch.randperm(len(batch), generator=generator)]
    return partners


def batch_numbers(batches: Sequence[Tensor]) -> Tensor:
    """Return the number of every image's batch, int64 ``(n,)``.

    Example:
        >>> batch_numbers([torch.tensor([2, 0]), torch.tensor([1])]).tolist()
        [0, 1, 0]
    """
    numbers = torch.empty(sum(len(batch) for batch in batches), dtype=torch.int64)
    for number, batch in enumerate(batches):
        numbers[batch] = number
    return numbers


def cutmix(images: Tensor, partners: Tensor, boxes: Tensor) -> Tensor:
    """Paste a box of another image into every image, at the same place.

    Args:
        images: float ``(n, c, h, w)``.
        partners: float ``(n, c, h, w)``: the images that are pasted.
        boxes: int64 ``(n, 4)``: left, top, right, bottom, ends excluded.

    Returns:
        float ``(n, c, h, w)``.

    Example:
        >>> zeros, ones = torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)
        >>> cutmix(zeros, ones, torch.tensor([[1, 0, 3, 1]])).flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    left, top, right, bottom = boxes.unsqueeze(2).unbind(1)
    y = torch.arange(images.shape[2], device=images.device)
    x = torch.arange(images.shape[3], device=images.device)
    rows = (y >= top) & (y < bottom)
    columns = (x >= left) & (x < right)
    inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    return torch.where(inside, partners, images)


def mixup(images: Tensor, partners: Tensor, lam: Tensor) -> Tensor:
    r"""Blend images, :math:`\lambda x + (1 - \lambda) x'`.

    Args:
        images: float ``(n, c, h, w)``.
        partners: float ``(n, c, h, w)``: the images that are blended in.
        lam: float ``(n,)``: the share of each image.

    Returns:
        float ``(n, c, h, w)``.

    Example:
        >>> mixup(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2), torch.tensor([0.25])).flatten().tolist()
        [0.75, 0.75]
    """
    share = lam.to(images.dtype)[:, None, None, None]
    return share * images + (1 - share) * partners
