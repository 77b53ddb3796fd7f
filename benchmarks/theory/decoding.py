"""Centroids as images, by the decoder alone or by the method of the configuration."""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.theory.options import DIFFUSION
from ddoq.data import ImageDataModule
from ddoq.images import to_uint8
from ddoq.latents.quantization import LatentQuantization
from ddoq.priors.base import Prior


class CentroidDecoder:
    """Decodes the centroids of every class.

    Args:
        data: The dataset.
        prior: On its device.
        method: Says how the diffusion model decodes.
    """

    def __init__(self, data: ImageDataModule, prior: Prior, method: LatentQuantization) -> None:
        self._data = data
        self._prior = prior
        self._method = method

    def decode(self, how: str, centroids: Sequence[Tensor], seed: int) -> list[Tensor]:
        """Make images of centroids.

        Args:
            how: ``vae`` or ``diffusion``.
            centroids: ``(k, d)`` for each class.
            seed: Decides the noise of ``diffusion``.

        Returns:
            uint8 ``(k, 3, h, w)`` for each class, at the dataset's size, on the device of the centroids.
        """
        method = self._method.with_arguments(seed=seed, ipc=1)
        method.attach(self._data, prior=self._prior)
        method.to(centroids[0].device)
        images = []
        for label, part in enumerate(centroids):
            latents = part.reshape(-1, *self._prior.latent_shape)
            if how == DIFFUSION:
                images.append(method.decode(latents, label).to(part.device))
            else:
                images.append(self._by_decoder(latents, method))
        return images

    @torch.no_grad()
    def _by_decoder(self, latents: Tensor, method: LatentQuantization) -> Tensor:
        parts = []
        for batch in latents.split(method.batch_size):
            images = self._prior.decode(batch)
            if images.shape[-1] != self._data.image_size:
                images = method.resize(images)
            parts.append(to_uint8(images))
        return torch.cat(parts)
