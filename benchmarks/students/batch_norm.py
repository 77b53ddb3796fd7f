"""Batch normalisation of students that several ranks train together."""

import torch
from torch import nn

from ddoq.errors import UserError


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether a network takes statistics over a batch.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.BatchNorm2d(3))), has_batch_norm(nn.GroupNorm(1, 3))
        (True, False)
    """
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


def synchronize_batch_norm(network: nn.Module, device: torch.device, name: str) -> nn.Module:
    """Replace batch normalisation by one that takes its statistics over all ranks.

    timm's conversion keeps the activation that its own layers hold; torch's would drop it without a word.

    Args:
        network: On any device; its parameters stay the same objects.
        device: Where it will be trained.
        name: What an error message calls it.

    Raises:
        UserError: On a CPU, where torch has no such layer; never for a network without batch normalisation.
    """
    if not has_batch_norm(network):
        return network
    if device.type == "cpu":
        raise UserError(
            f"Student {name!r} has batch normalisation, whose statistics torch cannot share between ranks on a CPU: "
            "set evaluation.sync_batchnorm to false (each rank then normalises its own share of a batch), or "
            "evaluation.ranks to independent."
        )
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(network)
    return converted
