"""The decoder of a prior's autoencoder as a generator."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ddoq.priors.generators.base import Generator, Latents, Split
from ddoq.priors.latent import LatentDiffusionPrior


def decoder_splits(vae: Any, latent_side: int) -> tuple[Split, ...]:
    """List where the decoder of an autoencoder can be split.

    Args:
        vae: ``AutoencoderKL`` of diffusers, with values or without.
        latent_side: Side of its latents.

    Returns:
        ``latents``, before the first convolution; ``mid``, before the middle block; ``up0``, ``up1`` and so on, before each
        block that enlarges; ``output``, before the last norm and convolution.
    """
    decoder = vae.decoder
    width = decoder.conv_in.out_channels
    places = [Split("latents", (vae.config.latent_channels, latent_side, latent_side))]
    places.append(Split("mid", (width, latent_side, latent_side)))
    side = latent_side
    for number, block in enumerate(decoder.up_blocks):
        places.append(Split(f"up{number}", (width, side, side)))
        width = block.resnets[-1].out_channels
        side *= 1 if block.upsamplers is None else 2
    return (*places, Split("output", (width, side, side)))


class DecoderGenerator(Generator):
    """The decoder of a diffusers autoencoder: Stable Diffusion's, a DiT's, or that of a prior trained here.

    It has no styles, and knows nothing of classes: its latents begin with real images, encoded to the modes of their
    posteriors. Decoded from the first split point they are what the prior decodes, before it is cut off at [0, 1].

    Args:
        prior: Whose autoencoder it is; weights are shared with it.
    """

    begins: Literal["images", "draws"] = "images"

    def __init__(self, prior: LatentDiffusionPrior) -> None:
        super().__init__()
        self.vae = prior.vae
        self.image_size = prior.image_size
        self.origin = f"decoder of the prior {prior.origin}"
        self._prior = [prior]  # in a list, so that it is no part of this module
        self._splits = decoder_splits(prior.vae, prior.latent_shape[1])

    @property
    def splits(self) -> tuple[Split, ...]:
        """The latents, then before each block of the decoder; see :func:`decoder_splits`."""
        return self._splits

    def begin(
        self, labels: Tensor, images: Tensor, generators: Sequence[torch.Generator]
    ) -> Latents:
        """Encode images; what leaves [0, 1] is cut off. Labels and generators are not looked at."""
        return Latents(self._prior[0].encode(images.clamp(0, 1)))

    def layer(self, number: int, features: Tensor, style: Tensor | None) -> Tensor:
        """Send features through one block; see :meth:`Generator.layer`."""
        decoder, prior = self.vae.decoder, self._prior[0]
        if number == 0:
            given = (features.float() / prior.scale + prior.shift).to(prior.dtype)
            if self.vae.post_quant_conv is not None:
                given = self.vae.post_quant_conv(given)
            first: Tensor = decoder.conv_in(given)
            return first
        given = features.to(prior.dtype)
        if number == 1:
            middle: Tensor = decoder.mid_block(given)
            return middle
        if number < len(self._splits) - 1:
            larger: Tensor = decoder.up_blocks[number - 2](given)
            return larger
        images: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(given))).float()
        return images / 2 + 0.5
