"""What the official code does to recovered images on their way to the disk: truncate, then JPEG."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# What the record of a set says whose images went through :func:`through_jpeg`.
JPEG_CODEC = "jpeg-q75"

# Pillow's defaults, on which the official code relies; written out so that no release can change them.
_OPTIONS = {"quality": 75, "subsampling": "4:2:0"}


def truncate(images: Tensor) -> Tensor:
    """Cut floats in [0, 1] to the level below, as the official code does; on average half a level darker.

    Args:
        images: Float, any shape; values outside [0, 1] are clipped.

    Returns:
        uint8 of the same shape.

    Example:
        >>> truncate(torch.tensor([0.0, 0.5, 0.999, 1.0]))
        tensor([  0, 127, 254, 255], dtype=torch.uint8)
    """
    return (images.float().clamp(0, 1) * 255).to(torch.uint8)


def through_jpeg(images: Tensor) -> Tensor:
    """Write images as JPEG of quality 75 with halved colour resolution (4:2:0), and read them again.

    Source: official repository VILA-Lab/SRe2L at 8d00cba, which saves with Pillow's defaults.

    Args:
        images: uint8 ``(n, 3, h, w)``.

    Returns:
        uint8 of the same shape, on the CPU.

    Example:
        >>> gray = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
        >>> bool((through_jpeg(gray) == 100).all())  # nothing to lose in a flat image
        True
    """
    return torch.stack([_once(image) for image in images.cpu().permute(0, 2, 3, 1)])


def _once(image: Tensor) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.numpy()).save(file, "JPEG", **_OPTIONS)
    with Image.open(file) as decoded:
        return torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
