"""The networks of a latent diffusion prior one by one, so that the work of each can be counted."""

from typing import Any

import torch
from torch import Tensor, nn

from ddoq.errors import UserError


class PriorNetworks(nn.Module):
    """Autoencoder, denoising network, scheduler and, where classes are told by prompts, the text encoder.

    Args:
        vae: ``AutoencoderKL``.
        denoiser: ``UNet2DConditionModel`` or ``DiTTransformer2DModel``.
        scheduler: Any diffusers scheduler.
        text_encoder: Of Stable Diffusion.
    """

    def __init__(
        self, vae: Any, denoiser: Any, scheduler: Any, text_encoder: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.vae = vae
        self.denoiser = denoiser
        self.scheduler = scheduler
        self.text_encoder = text_encoder

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, ``(c, h, w)``."""
        config = self.denoiser.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that are encoded and decoded."""
        return int(self.latent_shape[1] * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def encode(self, count: int) -> None:
        """Encode blank images."""
        side = self.image_size
        self.vae.encode(self._blank(count, 3, side, side))

    @torch.no_grad()
    def denoise(self, count: int) -> None:
        """Send blank latents through the denoising network once."""
        inputs, times = self._blank(count, *self.latent_shape), self._zeros(count)
        config = self.denoiser.config
        if "num_embeds_ada_norm" in config:
            self.denoiser(inputs, timestep=times, class_labels=self._zeros(count))
        elif "cross_attention_dim" in config:
            text = self._blank(count, self._tokens, config.cross_attention_dim)
            self.denoiser(inputs, times, encoder_hidden_states=text)
        else:
            raise UserError(
                f"It is not known what a {type(self.denoiser).__name__} is told of classes: its work cannot be counted."
            )

    @torch.no_grad()
    def decode(self, count: int) -> None:
        """Decode blank latents."""
        self.vae.decode(self._blank(count, *self.latent_shape))

    @torch.no_grad()
    def encode_prompts(self, count: int) -> None:
        """Send blank prompts through the text encoder, if there is one."""
        if self.text_encoder is not None:
            self.text_encoder(self._zeros(count, self._tokens))

    @property
    def _tokens(self) -> int:
        config: Any = getattr(self.text_encoder, "config", None)
        return int(config.max_position_embeddings)

    def _blank(self, *shape: int) -> Tensor:
        like = next(self.denoiser.parameters())
        return torch.zeros(shape, device=like.device, dtype=like.dtype)

    def _zeros(self, *shape: int) -> Tensor:
        device = next(self.denoiser.parameters()).device
        return torch.zeros(shape, dtype=torch.long, device=device)
