"""How networks learn from synthetic images while these are made."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddoq.augmentation.siamese import augment_siamese, draw_siamese


def learn(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    kinds: Sequence[str],
    generator: Callable[[str, int], torch.Generator],
    momentum: float = 0.0,
) -> None:
    """Let a network learn from images, each augmented by itself, anew in every epoch.

    Args:
        network: A classifier; its weights change, its mode does not.
        images: Float ``(n, 3, h, w)``, as it takes them.
        labels: int64 ``(n,)``, on the same device.
        epochs: Passes over the images.
        lr: Step size of gradient descent on the cross-entropy.
        batch_size: Images a step; the last of an epoch may have fewer.
        kinds: Of Siamese augmentation; empty for none.
        generator: Makes the generator of a draw, of its purpose (``order`` or ``train``) and the epoch.
        momentum: Of the descent.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> images, labels = torch.eye(3).reshape(3, 3, 1, 1), torch.tensor([0, 1, 0])
        >>> learn(network, images, labels, epochs=200, lr=1.0, batch_size=3, kinds=(),
        ...     generator=lambda what, epoch: torch.Generator())
        >>> network(images).argmax(dim=1)
        tensor([0, 1, 0])
    """
    height, width = images.shape[-2:]
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator("order", epoch))
        inputs = images
        if kinds:
            drawn = draw_siamese(len(images), (height, width), kinds, generator("train", epoch))
            inputs = augment_siamese(images, drawn.to(images.device))
        for batch in order.to(images.device).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
