"""The networks of a latent diffusion prior one by one, so that the work of each can be counted."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ddoq.costs.flops import filled, on_meta
from ddoq.errors import UserError
from ddoq.priors.base import Prior, Sampling


@dataclass(frozen=True)
class PriorNetworks:
    """Autoencoder, denoising network, scheduler and, where classes are told by prompts, the text encoder.

    Attributes:
        vae: ``AutoencoderKL``.
        denoiser: ``UNet2DConditionModel`` or ``DiTTransformer2DModel``.
        scheduler: Any diffusers scheduler.
        text_encoder: Of Stable Diffusion.
    """

    vae: Any
    denoiser: Any
    scheduler: Any
    text_encoder: nn.Module | None = None

    @classmethod
    def of(cls, prior: Prior | None) -> Self | None:
        """Take a prior apart, without its values; None for a prior that is not made of these networks."""
        vae, scheduler = getattr(prior, "vae", None), getattr(prior, "scheduler", None)
        denoiser = getattr(prior, "unet", None) or getattr(prior, "transformer", None)
        if vae is None or denoiser is None or scheduler is None:
            return None
        whole = cls(vae, denoiser, scheduler, getattr(prior, "text_encoder", None))
        return whole.on_meta()

    def on_meta(self) -> Self:
        """Return the same networks without values."""
        text = self.text_encoder
        return type(self)(
            on_meta(self.vae),
            on_meta(self.denoiser),
            copy.deepcopy(self.scheduler),
            None if text is None else on_meta(text),
        )

    def filled(self, device: torch.device) -> Self:
        """Return the same networks on a device with random values, to measure how fast they run."""
        text = self.text_encoder
        return type(self)(
            filled(self.vae, device),
            filled(self.denoiser, device),
            copy.deepcopy(self.scheduler),
            None if text is None else filled(text, device),
        )

    def to(self, dtype: torch.dtype) -> Self:
        """Let the networks compute in a dtype, in place, and return them."""
        for network in (self.vae, self.denoiser, self.text_encoder):
            if network is not None:
                nn.Module.to(
                    network, dtype
                )  # diffusers' own complains of parts that these do not have
        return self

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent, ``(c, h, w)``."""
        config = self.denoiser.config
        return config.in_channels, config.sample_size, config.sample_size

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that are encoded and decoded."""
        return int(self.latent_shape[1] * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        device: torch.device = next(self.denoiser.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What they compute in."""
        dtype: torch.dtype = next(self.denoiser.parameters()).dtype
        return dtype

    def passes(self, sampling: Sampling) -> int:
        """Count how often an image goes through the denoising network when it is generated from a latent.

        Guidance sends it through twice a step; some schedulers take further steps.
        """
        steps = sampling.num_inference_steps
        run = min(int(steps * sampling.strength), steps)
        scheduler = copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps[(steps - run) * scheduler.order :]
        return len(times) * (2 if sampling.guidance_scale > 1 else 1)

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
    def tell(self, count: int) -> None:
        """Send prompts through the text encoder, if there is one."""
        if self.text_encoder is not None:
            tokens = torch.zeros(count, self._tokens, dtype=torch.long, device=self.device)
            self.text_encoder(tokens)

    @property
    def _tokens(self) -> int:
        config: Any = getattr(self.text_encoder, "config", None)
        return int(config.max_position_embeddings)

    def _blank(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device, dtype=self.dtype)

    def _zeros(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.long, device=self.device)
