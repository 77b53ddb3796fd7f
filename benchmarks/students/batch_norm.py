"""Over which images batch normalisation takes its statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ddoq.errors import UserError


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether a network takes statistics over a batch.

    Example:
        >>> has_batch_norm(nn.Sequential(nn.BatchNorm2d(3))), has_batch_norm(nn.GroupNorm(1, 3))
        (True, False)
    """
    return any(True for _ in _batch_norms(network))


def _batch_norms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    return (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation take the statistics of the batch that it sees, and remember nothing of them.

    Args:
        network: Whatever else differs in training mode (dropout, stochastic depth) stays as it is.

    Example:
        >>> layer = nn.BatchNorm1d(1).eval()
        >>> with batch_statistics(layer):
        ...     seen = layer(torch.tensor([[1.0], [3.0]]))
        >>> seen.flatten().round().tolist(), layer.running_mean.tolist(), layer.training
        ([-1.0, 1.0], [0.0], False)
    """
    layers = [(layer, layer.training, layer.track_running_stats) for layer in _batch_norms(network)]
    try:
        for layer, _, _ in layers:
            layer.training, layer.track_running_stats = True, False
        yield
    finally:
        for layer, training, tracks in layers:
            layer.training, layer.track_running_stats = training, tracks


def statistics_parts(network: nn.Module, batch: int, bn_batch: int, world_size: int = 1) -> int:
    """Return in how many parts a batch goes through a network, so that its statistics are of about ``bn_batch`` images.

    Accumulating gradients over micro-batches, or splitting a batch over GPUs, does the same. On several ranks the number
    is that of a rank's share, unless the statistics are taken over all ranks; it is the same on every rank.

    Args:
        network: A network without batch normalisation takes the batch as it is.
        batch: Images per optimiser step over all ranks.
        bn_batch: How many images statistics shall be of; 0 for all.
        world_size: Number of ranks.

    Returns:
        At least 1; no part has less than two images.

    Example:
        >>> norm = nn.BatchNorm2d(3)
        >>> statistics_parts(norm, 1024, 512), statistics_parts(norm, 512, 73), statistics_parts(norm, 100, 512)
        (2, 7, 1)
    """
    if bn_batch == 0 or not has_batch_norm(network):
        return 1
    together = any(isinstance(m, nn.SyncBatchNorm) for m in network.modules())
    images = batch if together else batch / world_size
    return max(1, min(round(images / bn_batch), batch // world_size // 2))


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
