"""Changes of colour with parameters of its own for every image: jitter and lighting noise."""

import torch
from torch import Tensor

# Share of red, green and blue in the brightness of a pixel (ITU-R BT.601), as torchvision rounds them.
_GRAY = (0.2989, 0.587, 0.114)

# Principal components of the colours of ImageNet's pixels in [0, 1]: standard deviations, and directions in columns.
# Values that fb.resnet.torch computed for the colour augmentation of Krizhevsky et al. (2012), section 4.1.
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def draw_jitter(n: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    r"""Draw factors, uniform in :math:`[1 - s, 1 + s]`, and the order in which they are applied.

    Args:
        n: How many.
        strength: :math:`s` in [0, 1].
        generator: CPU generator.

    Returns:
        float32 ``(n, 3)``: factors of brightness, contrast and saturation; int64 ``(n, 3)``: permutations of 0, 1, 2.

    Example:
        >>> factors, order = draw_jitter(2, 0.0, torch.Generator())
        >>> factors.tolist(), order.sort(dim=1).values.tolist()
        ([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[0, 1, 2], [0, 1, 2]])
    """
    factors = 1 + strength * (2 * torch.rand(n, 3, generator=generator) - 1)
    return factors, torch.rand(n, 3, generator=generator).argsort(dim=1)


def jitter(images: Tensor, factors: Tensor, order: Tensor, *, clamp: bool = True) -> Tensor:
    r"""Change brightness, contrast and saturation, for every image in an order of its own.

    Each is a blend :math:`f x + (1 - f) b`, cut off at 0 and 1 unless told otherwise: with black for brightness, with the mean grey of the
    image for contrast, with its grey version for saturation. Values cut off equal those of torchvision's
    ``adjust_brightness``, ``adjust_contrast`` and ``adjust_saturation``.

    Args:
        images: float ``(n, 3, h, w)`` in [0, 1].
        factors: float ``(n, 3)``: of brightness, contrast and saturation.
        order: int64 ``(n, 3)``: which of the three comes first, second and third.
        clamp: Whether values are cut off after each of the three.

    Returns:
        float ``(n, 3, h, w)``; in [0, 1] where they are cut off.

    Example:
        >>> image = torch.full((1, 3, 1, 1), 0.5)
        >>> jitter(image, torch.tensor([[1.5, 1.0, 1.0]]), torch.tensor([[0, 1, 2]])).mean().item()
        0.75
    """
    shares = images.new_tensor(_GRAY).reshape(1, 3, 1, 1)
    for step in range(order.shape[1]):
        kind = order[:, step].reshape(-1, 1, 1, 1)
        factor = factors.gather(1, order[:, step : step + 1]).reshape(-1, 1, 1, 1)
        gray = (images * shares).sum(dim=1, keepdim=True)
        mean = gray.mean(dim=(2, 3), keepdim=True)
        base = torch.where(kind == 2, gray, torch.where(kind == 1, mean, torch.zeros_like(mean)))
        images = factor * images + (1 - factor) * base
        if clamp:
            images = images.clamp(0, 1)
    return images


def draw_lighting(n: int, std: float, generator: torch.Generator) -> Tensor:
    r"""Draw AlexNet's lighting noise (Krizhevsky et al., 2012, section 4.1).

    .. math::
        \delta_i = \sum_k \alpha_{ik} \lambda_k\, p_k, \quad \alpha_{ik} \sim \mathcal{N}(0, \sigma^2)

    with the principal components :math:`p_k` of the colours of ImageNet.

    Args:
        n: How many.
        std: :math:`\sigma`.
        generator: CPU generator.

    Returns:
        float32 ``(n, 3)``: what is added to red, green and blue of pixels in [0, 1].

    Example:
        >>> draw_lighting(1, 0.0, torch.Generator()).abs().tolist()
        [[0.0, 0.0, 0.0]]
    """
    alpha = std * torch.randn(n, 3, generator=generator)
    return (alpha * torch.tensor(_EIGENVALUES)) @ torch.tensor(_EIGENVECTORS).T
