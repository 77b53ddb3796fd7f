"""Learning rates that are set once an epoch."""

import math

# Where a linear warm-up starts, as a share of the rate: `--lr-warmup-decay` of SRe2L's scripts for Tiny-ImageNet, whose
# training is that of torchvision's references.
WARM_UP_START = 0.01


def cosine_factor(epoch: int, epochs: int, *, warmup: int = 0, zeta: float = 1.0) -> float:
    r"""Return what the learning rate is multiplied by in an epoch: a linear warm-up, then a cosine.

    .. math::
        0.01 + 0.99 \, \frac{e}{w} \text{ for } e < w, \quad \text{else } \quad
        \tfrac{1}{2} \left(1 + \cos \frac{\pi (e - w)}{\zeta (E - w)}\right)

    Args:
        epoch: :math:`e`, counts from 0.
        epochs: :math:`E`.
        warmup: :math:`w`, epochs in which the rate rises; below ``epochs``.
        zeta: Stretch of the cosine: 1 ends at 0, 2 at half of the rate.

    Returns:
        A number in [0, 1].

    Example:
        >>> [round(cosine_factor(epoch, 5, warmup=2), 3) for epoch in range(5)]
        [0.01, 0.505, 1.0, 0.75, 0.25]
    """
    if epoch < warmup:
        return WARM_UP_START + (1 - WARM_UP_START) * epoch / warmup
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (zeta * (epochs - warmup))))
