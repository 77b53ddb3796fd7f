"""Shuffling the strips of collages, of every image in an order of its own."""

import torch
from torch import Tensor


def draw_patches(n: int, collage: int, generator: torch.Generator) -> Tensor:
    """Draw the orders in which the strips of collages are put together.

    Args:
        n: How many.
        collage: Patches along a side.
        generator: CPU generator.

    Returns:
        int64 ``(n, 2, collage)``: permutations of rows and of columns of patches.

    Example:
        >>> draw_patches(1, 1, torch.Generator()).tolist()
        [[[0], [0]]]
    """
    return torch.rand(n, 2, collage, generator=generator).argsort(dim=2)


def shuffle_patches(images: Tensor, orders: Tensor) -> Tensor:
    """Put the rows of patches in another order, then the columns: what RDED does with its collages.

    Neighbours in a row of patches stay neighbours, so that not every arrangement of the patches can come about. Where
    a side is no multiple of the number of patches, the last strip holds the rest.

    Args:
        images: ``(n, c, h, w)``.
        orders: int64 ``(n, 2, f)``: which row and which column of patches comes first, second and so on.

    Returns:
        Like ``images``.

    Example:
        >>> image = torch.arange(4).reshape(1, 1, 2, 2)
        >>> shuffle_patches(image, torch.tensor([[[1, 0], [0, 1]]])).tolist()
        [[[[2, 3], [0, 1]]]]
    """
    n = len(images)
    height, width = images.shape[-2:]
    rows, columns = _sources(orders[:, 0], height), _sources(orders[:, 1], width)
    batch = torch.arange(n, device=images.device).reshape(n, 1, 1)
    picked = images.permute(0, 2, 3, 1)[batch, rows.unsqueeze(2), columns.unsqueeze(1)]
    return picked.permute(0, 3, 1, 2)


def _sources(order: Tensor, side: int) -> Tensor:
    """Say for every line of the shuffled images which line of the original it is: int64 ``(n, side)``."""
    n, strips = order.shape
    starts = torch.arange(strips, device=order.device) * (side // strips)
    lengths = torch.full_like(starts, side // strips)
    lengths[-1] = side - starts[-1]
    ends = lengths[order].cumsum(dim=1)
    line = torch.arange(side, device=order.device).expand(n, side).contiguous()
    slot = torch.searchsorted(ends, line, right=True)
    # A line keeps its distance from the end of its strip.
    last = starts + lengths
    return line - ends.gather(1, slot) + last[order].gather(1, slot)
