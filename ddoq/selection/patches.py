"""Crops of real images: proposed, cut out, chosen by scores of which the lowest are the best, and put together.

A box is four whole numbers, in pixels: top, left, height, width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.augmentation.epochs import draw_crops
from ddoq.images import to_float
from ddoq.seeding import generator_for

_SQUARE = (1.0, 1.0)


def propose_boxes(
    numbers: Sequence[int],
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    *,
    seed: int,
    label: int,
) -> Tensor:
    """Draw square boxes in images of a class, those of every image from a generator of its own.

    So the boxes of an image depend neither on the other images nor on their order. Area uniform, place uniform.

    Args:
        numbers: Of the images within their class; they key the draws.
        count: Boxes an image.
        size: Height and width of the images.
        scale: Smallest and largest share of the area.
        seed: The seed of the run.
        label: The class.

    Returns:
        int64 ``(len(numbers), count, 4)``.

    Example:
        >>> propose_boxes([5], 2, (8, 8), (1.0, 1.0), seed=0, label=1).tolist()
        [[[0, 0, 8, 8], [0, 0, 8, 8]]]
    """
    boxes = [
        draw_crops(count, size, scale, _SQUARE, generator_for(seed, "crops", label, number))
        for number in numbers
    ]
    return torch.stack(boxes)


def cut_patches(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut a box out of every image and bring it to a size, bilinearly and, where it shrinks, antialiased.

    Args:
        images: uint8 ``(n, c, h, w)``.
        boxes: int64 ``(n, 4)``.
        side: Of the patches, in pixels.

    Returns:
        float32 in [0, 1], ``(n, c, side, side)``; a box of this size is copied as it is.

    Example:
        >>> image = torch.tensor([[[[0, 255], [255, 255]]]], dtype=torch.uint8)
        >>> cut_patches(image, torch.tensor([[0, 0, 1, 1]]), 1).tolist(), cut_patches(image, torch.tensor([[0, 0, 2, 2]]), 1).tolist()
        ([[[[0.0]]]], [[[[0.75]]]])
    """
    patches = [
        tv.resized_crop(to_float(image), *box, size=[side, side], antialias=True)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.stack(patches)


def box_means(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Average maps over boxes of the images that they belong to; a location counts by the share of it that is covered.

    Args:
        maps: Float ``(n, h, w)``, each over a whole image.
        boxes: int64 ``(n, m, 4)``, in pixels of the images.
        size: Height and width of the images; those of the maps may be smaller or larger.

    Returns:
        float64 ``(n, m)``.

    Example:
        >>> maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])  # of an image of 4 x 4 pixels
        >>> box_means(maps, torch.tensor([[[0, 0, 4, 4], [2, 2, 2, 2], [0, 0, 2, 3]]]), (4, 4))
        tensor([[2.5000, 4.0000, 1.3333]], dtype=torch.float64)
    """
    top, left, height, width = boxes.to(maps.device, torch.float64).unbind(-1)
    rows = _coverage(top, height, maps.shape[-2], size[0])
    columns = _coverage(left, width, maps.shape[-1], size[1])
    sums = torch.einsum("nmh,nhw,nmw->nm", rows, maps.double(), columns)
    return sums / (rows.sum(-1) * columns.sum(-1))


def _coverage(start: Tensor, length: Tensor, cells: int, pixels: int) -> Tensor:
    """Say how much of each cell of a side lies between ``start`` and ``start + length``: ``(n, m, cells)``."""
    first = torch.arange(cells, dtype=torch.float64, device=start.device)
    low = (start * cells / pixels).unsqueeze(-1).maximum(first)
    high = ((start + length) * cells / pixels).unsqueeze(-1).minimum(first + 1)
    return (high - low).clamp_min(0)


def best_boxes(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the box of the lowest score of every image; of equal ones the first.

    Args:
        boxes: int64 ``(n, m, 4)``.
        scores: Float ``(n, m)``.

    Returns:
        Boxes ``(n, 4)`` and their scores ``(n,)``.

    Example:
        >>> boxes = torch.arange(8).reshape(1, 2, 4)
        >>> best_boxes(boxes, torch.tensor([[0.5, 0.2]]))
        (tensor([[4, 5, 6, 7]]), tensor([0.2000]))
    """
    rows = torch.arange(len(scores))
    best = scores.argmin(dim=1)
    return boxes[rows, best], scores[rows, best]


def rank_in_clusters(scores: Tensor, clusters: Tensor, count: int) -> Tensor:
    """Take the best of every cluster, then the second best of each, and so on, until there are enough.

    Args:
        scores: Float ``(n,)``; the lowest are the best, of equal ones the first.
        clusters: int64 ``(n,)``: the cluster of each.
        count: How many to take, at most n.

    Returns:
        int64 ``(count,)``: positions, all best ones first, by score within a round. With one cluster they are the lowest
        scores.

    Example:
        >>> scores, clusters = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0, 0, 0, 1])
        >>> rank_in_clusters(scores, clusters, 3), rank_in_clusters(scores, torch.zeros(4), 3)
        (tensor([0, 3, 1]), tensor([0, 1, 2]))
    """
    order = torch.argsort(scores, stable=True)
    ordered = clusters[order]
    earlier = (ordered[:, None] == ordered[None, :]).tril(-1).sum(dim=1)  # better ones of its own
    return order[torch.argsort(earlier, stable=True)[:count]]


def stitch(patches: Tensor, factor: int) -> Tensor:
    """Put ``factor`` times ``factor`` patches into each image, as RDED does: image i of n holds patches i, i + n, i + 2n, ...

    So every image has one of the n best patches in its first cell.

    Args:
        patches: ``(n * factor**2, c, h, w)``, the best first.
        factor: Patches along a side.

    Returns:
        ``(n, c, h * factor, w * factor)``, filled row by row.

    Example:
        >>> grays = torch.arange(8).reshape(8, 1, 1, 1)
        >>> stitch(grays, 2)[1].tolist()
        [[[1, 3], [5, 7]]]
    """
    channels, height, width = patches.shape[1:]
    cells = patches.reshape(factor, factor, -1, channels, height, width)
    return cells.permute(2, 3, 0, 4, 1, 5).reshape(-1, channels, factor * height, factor * width)
