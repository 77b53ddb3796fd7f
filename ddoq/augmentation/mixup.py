"""MixUp (Zhang et al., 2018): every image is blended with another one."""

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
