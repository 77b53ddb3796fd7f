r"""The space in which images were optimised: channel normalisation and ZCA whitening, both ways.

Images that were distilled in a whitened space mean nothing without the matrix: the transform travels with the set.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.images import to_float

_CHUNK = 4096  # images of a covariance that are converted at once
_LARGEST_ZCA = 2**30  # bytes of a whitening matrix, which travels with every set
_FITTING = 10  # times as many bytes while it is fitted: in float64 covariance, eigenvectors, workspace and product


@dataclass(frozen=True, eq=False)
class Transform:
    r"""An invertible linear map from images in [0, 1] to the space of a set.

    .. math:: z = W \, \frac{x - \mu}{\sigma}

    with :math:`W` over the whole flattened image; without it each pixel stands for itself.

    Attributes:
        mean: float32, ``(3, 1, 1)`` per channel or ``(3, h, w)`` per pixel.
        std: float32, of the shape of ``mean``; above 0.
        zca: float32 ``(3hw, 3hw)``; None where nothing is whitened.

    Raises:
        UserError: If shapes do not fit or a deviation is not above 0.

    Example:
        >>> half = Transform.normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        >>> half.apply(torch.ones(1, 3, 2, 2)).unique(), half.invert(torch.zeros(1, 3, 2, 2)).unique()
        (tensor([2.]), tensor([0.5000]))
    """

    mean: Tensor
    std: Tensor
    zca: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit."""
        parts = [part for part in (self.mean, self.std, self.zca) if part is not None]
        if any(part.dtype != torch.float32 or not torch.isfinite(part).all() for part in parts):
            raise UserError("A transform's tensors must be float32 and finite.")
        if self.mean.ndim != 3 or self.mean.shape != self.std.shape:
            raise UserError(
                f"A transform's mean and std must both be (3, 1, 1) or (3, h, w), not {tuple(self.mean.shape)} and "
                f"{tuple(self.std.shape)}."
            )
        if bool((self.std <= 0).any()):
            raise UserError("A transform's std must be above 0.")
        if self.zca is not None and (self.zca.ndim != 2 or self.zca.shape[0] != self.zca.shape[1]):
            raise UserError(f"A transform's zca must be square, not {tuple(self.zca.shape)}.")

    @classmethod
    def normalize(cls, mean: tuple[float, ...], std: tuple[float, ...]) -> "Transform":
        """Make the transform that normalises channels."""
        means, stds = (torch.tensor(values).float().reshape(-1, 1, 1) for values in (mean, std))
        return cls(means, stds)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], where: object) -> "Transform":
        """Make a transform of what :meth:`tensors` returned.

        Args:
            tensors: The parts by name.
            where: Where they come from, for errors.

        Raises:
            UserError: If parts are missing, too many, or do not fit.
        """
        if not {"mean", "std"} <= set(tensors) <= {"mean", "std", "zca"}:
            raise UserError(
                f"{where}: a transform has mean, std and at most zca, not {', '.join(tensors)}."
            )
        return cls(tensors["mean"], tensors["std"], tensors.get("zca"))

    def tensors(self) -> dict[str, Tensor]:
        """Return the parts by name, for files and hashes."""
        named = {"mean": self.mean, "std": self.std, "zca": self.zca}
        return {name: part for name, part in named.items() if part is not None}

    def to(self, device: torch.device | str) -> "Transform":
        """Copy to a device."""
        return replace(self, **{name: part.to(device) for name, part in self.tensors().items()})

    def check_size(self, shape: torch.Size) -> None:
        """Refuse images ``(..., 3, h, w)`` of another size than the transform was fitted to.

        Raises:
            UserError: Naming both sizes.
        """
        size, length = tuple(shape[-3:]), shape[-3:].numel()
        fits = self.mean.shape[1:] in ((1, 1), shape[-2:]) and self.mean.shape[0] == shape[-3]
        if not fits or (self.zca is not None and len(self.zca) != length):
            raise UserError(
                f"The transform of the set does not fit images of {size}: its mean is {tuple(self.mean.shape)}"
                + ("." if self.zca is None else f", its matrix has {len(self.zca)} rows.")
            )

    def apply(self, images: Tensor) -> Tensor:
        """Map images in [0, 1], float ``(n, 3, h, w)``, to the set's space."""
        normalised = (images - self.mean) / self.std
        return normalised if self.zca is None else _times(normalised, self.zca)

    def invert(self, images: Tensor) -> Tensor:
        """Map images of the set's space, float ``(n, 3, h, w)``, back to pixels; these may leave [0, 1]."""
        normalised = images if self.zca is None else _times(images, self._inverse)
        return normalised * self.std + self.mean

    @functools.cached_property
    def _inverse(self) -> Tensor:
        assert self.zca is not None
        try:
            inverse: Tensor = torch.linalg.inv(self.zca.double())
        except RuntimeError:  # torch.linalg.LinAlgError
            raise UserError("The ZCA matrix of the set cannot be inverted.") from None
        return inverse.to(self.zca.dtype)


def _times(images: Tensor, matrix: Tensor) -> Tensor:
    return (images.flatten(1) @ matrix.T).reshape(images.shape)


def check_zca(image_size: int) -> None:
    """Refuse to whiten images whose matrix would be too large to fit and to keep.

    Args:
        image_size: Side in pixels.

    Raises:
        UserError: Saying what the matrix would take.

    Example:
        >>> check_zca(64)
        >>> check_zca(224)
        Traceback (most recent call last):
        ...
        ddoq.errors.UserError: ZCA of images of 224 pixels takes a matrix of 150,528 x 150,528 numbers: 84.4 GiB in every \
set, and about 844 GiB while it is fitted. Leave ZCA out (zca: false), or take images of at most 73 pixels.
    """
    length = 3 * image_size**2
    size = 4 * length**2
    if size > _LARGEST_ZCA:
        largest = math.isqrt(math.isqrt(_LARGEST_ZCA // 4) // 3)
        raise UserError(
            f"ZCA of images of {image_size} pixels takes a matrix of {length:,} x {length:,} numbers: {size / 2**30:.1f} "
            f"GiB in every set, and about {_FITTING * size / 2**30:.0f} GiB while it is fitted. Leave ZCA out (zca: false), "
            f"or take images of at most {largest} pixels."
        )


def fit_zca(images: Tensor, eps: float = 0.1, std: Sequence[float] | None = None) -> Transform:
    r"""Fit ZCA whitening of whole images.

    .. math:: W = U \, \mathrm{diag}\big((s + \varepsilon)^{-1/2}\big) \, U^\top

    with the eigenvectors :math:`U` and eigenvalues :math:`s` of the covariance (divisor :math:`n - 1`) of the flattened
    images. Methods that match trajectories put it in place of normalisation, with :math:`\varepsilon = 0.1`
    (GeorgeCazenavette/mtt-distillation at 50dccea).

    Args:
        images: uint8, or float in [0, 1], ``(n, 3, h, w)``: the training set; at least two.
        eps: :math:`\varepsilon`, above 0.
        std: Deviations of the channels: images are divided by them first, as FRePo does. None leaves them as they are.

    Returns:
        The transform; its mean is one per pixel, its deviation ``std`` or 1.

    Raises:
        UserError: If there are less than two images, ``eps`` is not above 0, or the matrix would be too large, see
            :func:`check_zca`.

    Example:
        >>> noise = torch.rand(500, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> fit_zca(noise, eps=1e-6).apply(noise).flatten(1).T.cov().diag().mean().round(decimals=2)
        tensor(1.)
    """
    if len(images) < 2 or eps <= 0:
        raise UserError("ZCA needs at least two images, and eps above 0.")
    check_zca(max(images.shape[-2:]))
    chunks = images.flatten(1).split(_CHUNK)
    mean = sum((_float(chunk).double().sum(dim=0) for chunk in chunks), torch.tensor(0.0).double())
    mean = mean / len(images)
    scale = torch.ones(1, 1, 1) if std is None else torch.tensor(std).reshape(-1, 1, 1)
    scale = scale.float().expand(images.shape[1:]).contiguous()
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in chunks:
        centred = (_float(chunk).double() - mean) / scale.flatten().double()
        covariance += centred.T @ centred
    values, vectors = torch.linalg.eigh(covariance / (len(images) - 1))
    matrix = (vectors / torch.sqrt(values.clamp(min=0) + eps)) @ vectors.T
    mean = mean.float().reshape(images.shape[1:])
    return Transform(mean, scale, matrix.float())


def _float(images: Tensor) -> Tensor:
    return to_float(images) if images.dtype == torch.uint8 else images
