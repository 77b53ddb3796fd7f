"""Input normalisation as a layer, and the size of a network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ddoq.bounds import check_number
from ddoq.errors import UserError


class Normalize(nn.Module):
    r"""Subtract channel means and divide by channel standard deviations: :math:`(x - \mu_c) / \sigma_c`.

    The constants are buffers that stay out of the state dict: they describe the data, not the weights.

    Args:
        mean: One mean per channel, for pixels in [0, 1].
        std: One standard deviation per channel.

    Raises:
        UserError: If the lengths differ, a value is not finite or a standard deviation is not above 0.

    Example:
        >>> Normalize([0.5], [0.25])(torch.ones(1, 1, 1, 1)).item()
        2.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise UserError(f"`mean` has {len(mean)} channels, but `std` has {len(std)}.")
        if not all(value > 0 for value in std):
            raise UserError(f"Every value of `std` must be above 0, not {list(std)}.")
        for name, values in (("mean", mean), ("std", std)):
            for value in values:
                check_number(f"`{name}`", value)
            tensor = torch.tensor([float(value) for value in values]).reshape(1, -1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise float images ``(n, c, h, w)`` in [0, 1]."""
        return (images - self.mean) / self.std


def has_norm(module: nn.Module) -> bool:
    """Say whether any layer normalises activations: by batch, instance, group or layer.

    Example:
        >>> has_norm(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))), has_norm(nn.Linear(3, 2))
        (True, False)
    """
    kinds = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return any(isinstance(layer, kinds) for layer in module.modules())


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a network, frozen ones included, buffers not.

    Args:
        module: Any module.

    Returns:
        The number of scalars.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in module.parameters())
