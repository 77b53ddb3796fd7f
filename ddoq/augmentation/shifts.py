"""Random crops out of black borders (He et al., 2016): every image is moved by some pixels, and some are mirrored."""

import torch
import torch.nn.functional as F
from torch import Tensor


def draw_shifts(n: int, pad: int, generator: torch.Generator) -> Tensor:
    """Draw by how much images are moved.

    Args:
        n: How many.
        pad: Pixels of black around an image.
        generator: CPU generator.

    Returns:
        int64 ``(n, 2)``: rows and columns, uniform in [-pad, pad].

    Example:
        >>> draw_shifts(2, 0, torch.Generator()).tolist()
        [[0, 0], [0, 0]]
    """
    return torch.randint(-pad, pad + 1, (n, 2), generator=generator)


def shift_and_flip(images: Tensor, shifts: Tensor, flips: Tensor, crop_pad: int) -> Tensor:
    """Crop every image at random from its zero-padded self, and mirror some.

    Equal to ``torchvision.transforms.v2.functional.crop`` of the padded image followed by ``horizontal_flip``,
    with parameters of its own for every image.

    Args:
        images: ``(n, c, h, w)``, any dtype.
        shifts: int64 ``(n, 2)``, each in [-crop_pad, crop_pad].
        flips: bool ``(n,)``.
        crop_pad: Pixels of black around the image.

    Returns:
        ``(n, c, h, w)`` of the same dtype.

    Example:
        >>> image = torch.tensor([[[[1, 2, 3]]]])
        >>> shift_and_flip(image, torch.tensor([[0, 1]]), torch.tensor([False]), 1).tolist()
        [[[[2, 3, 0]]]]
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (crop_pad, crop_pad, crop_pad, crop_pad)) if crop_pad else images
    rows = torch.arange(height, device=images.device) + shifts[:, :1] + crop_pad
    columns = torch.arange(width, device=images.device).expand(n, width)
    columns = torch.where(flips.unsqueeze(1), width - 1 - columns, columns)
    columns = columns + shifts[:, 1:] + crop_pad
    number = torch.arange(n, device=images.device)[:, None, None]
    # Two indices around a slice put the channels last: (n, h, w, c), the layout that convolutions like best.
    return padded[number, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
