"""The D4M distiller: DDOQ's synthesis without its weights, or the published procedure."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.data.names import label_texts
from ddoq.distillation.shard import Shard
from ddoq.images import to_uint8
from ddoq.latents.cache import Posterior
from ddoq.latents.faithful import choose_settings
from ddoq.latents.quantization import LatentQuantization, Quantizer
from ddoq.priors.base import Prior, Sampling
from ddoq.teachers import Teacher

_log = logging.getLogger(__name__)

# The official ImageNet script (suduo94/D4M at da35d10).
_PUBLISHED: dict[str, Any] = {
    "quantizer": Quantizer(method="d4m", km_expand=1),
    "sampling": Sampling(strength=0.7, guidance_scale=8.0, num_inference_steps=50),
    "posterior": "sample",
}
_PUBLISHED_SIZE = 512  # pixels that images are encoded at


class D4M(LatentQuantization):
    """Quantise each class in latent space and decode the centroids; every image has weight 1.

    With equal settings and seed the images are DDOQ's, bit for bit, and come from the same shards: the
    comparison isolates the weights. ``faithful: true`` switches to what the official script does: one pass of
    ``partial_fit`` over chunks of ``ipc`` latents drawn from the posterior, leftovers dropped; strength 0.7, guidance 8,
    50 steps; originals stretched to the prior's square, whatever their ratio of sides; and images resized from the prior's
    size to the dataset's by Pillow's bicubic filter.

    Source: D. Su et al., *D^4M: Dataset Distillation via Disentangled Diffusion Model*, CVPR 2024; constants
    from the official repository suduo94/D4M at da35d10.

    Args:
        ipc: Images per class: the number of centroids.
        seed: Decides seeding of the quantiser and the noise of every image.
        quantizer: How the latents are quantised; None is DDOQ's default.
        sampling: How the diffusion model decodes; None is DDOQ's default.
        batch_size: Images a batch for encoding and for generation.
        posterior: ``mode`` or ``sample``; None is DDOQ's default, the mode.
        latent_cache: Keep the latents in the output folder; at the same batch size it changes no bit.
        faithful: Follow the official script. ``quantizer``, ``sampling`` and ``posterior`` are then what it says; one
            that is given all the same must agree with it.

    Raises:
        UserError: If a setting that is given contradicts ``faithful``.
    """

    method = "d4m"
    added: ClassVar = {"faithful": False}

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        quantizer: Quantizer | None = None,
        sampling: Sampling | None = None,
        batch_size: int = 64,
        posterior: Posterior | None = None,
        latent_cache: bool = True,
        faithful: bool = False,
    ) -> None:
        given: dict[str, Any] = {
            "quantizer": quantizer,
            "sampling": sampling,
            "posterior": posterior,
        }
        usual: dict[str, Any] = {
            "quantizer": Quantizer(),
            "sampling": Sampling(),
            "posterior": "mode",
        }
        chosen = choose_settings(
            given, usual, _PUBLISHED, faithful=faithful, source="D4M's official script"
        )
        super().__init__(ipc, seed, batch_size=batch_size, latent_cache=latent_cache, **chosen)
        self._chosen = chosen
        self.faithful = faithful
        self.stretch = faithful

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Leave the sampling of the official script as it is: ``faithful`` refuses another."""
        changes = super().tiny(given)
        return {k: v for k, v in changes.items() if k != "sampling" or not given.get("faithful")}

    def settings(self) -> dict[str, Any]:
        """Return all arguments, those left out as they were chosen."""
        return {**super().settings(), **self._chosen}

    def shard_settings(self) -> dict[str, Any]:
        """Share shards with DDOQ, unless images are resized in another way."""
        settings = super().shard_settings()
        return {**settings, "resize": "pillow-bicubic"} if self.faithful else settings

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take data and prior; see :meth:`Distiller.attach`. One of another size, or with other prompts, is said to be one."""
        super().attach(data, prior=prior, teacher=teacher)
        assert prior is not None
        if self.faithful:
            _check_prompts(data, getattr(prior, "prompts", None))
        if self.faithful and prior.image_size != _PUBLISHED_SIZE:
            _log.warning(
                "D4M, faithful: the published procedure encodes at %d pixels with Stable Diffusion 1.5; this prior "
                "works at %d.",
                _PUBLISHED_SIZE,
                prior.image_size,
            )

    def resize(self, images: Tensor) -> Tensor:
        """Resize decoded images to the dataset's size; ``faithful`` as the official code does, by Pillow."""
        if not self.faithful:
            return super().resize(images)
        side = self.data.image_size
        arrays = [
            np.array(Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.BICUBIC))
            for image in to_uint8(images).cpu().permute(0, 2, 3, 1)
        ]
        return (
            torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float().to(images.device) / 255
        )

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh all images the same."""
        return torch.ones(len(shard))


def _check_prompts(data: ImageDataModule, prompts: list[str] | None) -> None:
    """Say where a prior is told less of a class than the published procedure tells."""
    if prompts is None:  # it is told numbers
        return
    texts = label_texts(data.classes.keys, data.classes.names)
    other = [(ours, theirs) for ours, theirs in zip(prompts, texts, strict=True) if ours != theirs]
    if other:
        _log.warning(
            "D4M, faithful: the published procedure tells the prior the whole label with its synonyms, %r; here it is "
            "told %r. Set the dataset's prompt to '{synonyms}'.",
            other[0][1],
            other[0][0],
        )
