"""Conversions between stored pixels (uint8) and what networks see (float in [0, 1])."""

import torch
from torch import Tensor

from ddoq.finite import check_images


def to_float(images: Tensor) -> Tensor:
    """Scale uint8 pixels to float32 in [0, 1].

    Args:
        images: uint8, any shape.

    Returns:
        float32 of the same shape.
    """
    return images.to(torch.float32) / 255


def to_uint8(images: Tensor) -> Tensor:
    """Round floats in [0, 1] to the nearest of 256 levels.

    Rounding, not truncating: truncation darkens every image by half a level.

    Args:
        images: Float, any shape; values outside [0, 1] are clipped.

    Returns:
        uint8 of the same shape.

    Raises:
        NotFiniteError: If a value is NaN or infinite, of which rounding would make black or white.

    Example:
        >>> to_uint8(torch.tensor([0.0, 0.5, 1.0]))
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    check_images(
        images,
        "Images to round",
        "Look for what made them: a network or an optimisation that diverged.",
    )
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
