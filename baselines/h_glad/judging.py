"""How near synthetic images are to the real ones of their classes, in what networks of random weights find relevant."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.objectives.class_relevance import relevance_distance, relevant_means

_BATCH = 128  # real images at a time


class Judge:
    """Compares images with real ones of the same classes, under several networks.

    Args:
        networks: In evaluation mode, on the device.
        real: Of each class real images, float ``(m, 3, h, w)``, in the space that networks see.
    """

    def __init__(self, networks: Sequence[nn.Module], real: Mapping[int, Tensor]) -> None:
        self._networks = networks
        self._means = {
            label: [_mean(network, images, label) for network in networks]
            for label, images in real.items()
        }

    def distance(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the distance of images to the real ones: summed over classes, averaged over networks.

        Args:
            images: Float ``(n, 3, h, w)``.
            labels: int64 ``(n,)``.
        """
        found = []
        for label in labels.unique().tolist():
            shown = images[(labels == label).to(images.device)]
            for network, real in zip(self._networks, self._means[label], strict=True):
                found.append(relevance_distance(relevant_means(network, shown, label), real))
        return torch.stack(found).sum() / len(self._networks)


def _mean(network: nn.Module, images: Tensor, label: int) -> list[Tensor]:
    """Average the relevant maps over many images, some at a time."""
    total: list[Any] = []
    for batch in images.split(_BATCH):
        means = [len(batch) * one for one in relevant_means(network, batch, label)]
        total = means if not total else [a + b for a, b in zip(total, means, strict=True)]
    return [one / len(images) for one in total]
