"""What a prior offers: an encoder, a decoder and, where there is a diffusion model, generation from latents."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddoq.bounds import check_number
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.errors import UserError

# What draws: nothing, one generator for a batch, or one for each image.
Generators = torch.Generator | Sequence[torch.Generator] | None


# Published scales go up to some tens; at this one a prediction is an extrapolation and nothing else.
MOST_GUIDANCE = 1000.0


@dataclass(frozen=True)
class Sampling:
    """How the reverse diffusion runs.

    Attributes:
        strength: Share of the noise schedule that a latent is sent through, in (0, 1]: 0.7 noises it 70 % of
            the way and denoises it back. Default: D4M's shipped ImageNet script.
        guidance_scale: Classifier-free guidance; 1 switches it off. Default: DiT's at 256 x 256.
        num_inference_steps: Steps of the whole schedule; about ``strength`` of them are run.
    """

    strength: float = 0.7
    guidance_scale: float = 4.0
    num_inference_steps: int = 50

    def __post_init__(self) -> None:
        """Refuse what no scheduler could run."""
        check_number("sampling.strength", self.strength, above=0, at_most=1)
        check_number(
            "sampling.guidance_scale", self.guidance_scale, at_least=1, at_most=MOST_GUIDANCE
        )
        if self.num_inference_steps < 1:
            raise UserError(
                f"sampling.num_inference_steps must be at least 1, not {self.num_inference_steps}."
            )

    def passes(self, scheduler: Any) -> int:
        """Count how often an image goes through the denoising network when it is generated from a latent.

        Guidance sends it through twice a step; some schedulers take further steps.

        Args:
            scheduler: Any diffusers scheduler; it is left as it was.
        """
        steps = self.num_inference_steps
        run = min(int(steps * self.strength), steps)
        scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps[(steps - run) * scheduler.order :]
        return len(times) * (2 if self.guidance_scale > 1 else 1)


class Prior(nn.Module, ABC):
    """An encoder, a decoder and a class-conditional generator over one latent space.

    Images are float in [0, 1], ``(n, 3, h, w)``; latents are float ``(n, *latent_shape)``, scaled as the
    diffusion model expects them. All run under ``torch.no_grad`` on the module's device.

    Attributes:
        latent_shape: Shape of one latent, e.g. ``(4, 8, 8)``.
        image_size: Side in pixels of the images that it decodes to.
        num_classes: Number of classes that the generator knows, or has prompts for; None where any will do.
        fingerprint: Hash of its weights and configuration.
        origin: Where it came from, for messages: a folder, a hub id or the name of its class.
    """

    latent_shape: tuple[int, ...]
    image_size: int
    num_classes: int | None
    fingerprint: str
    origin: str

    def __init__(self) -> None:
        super().__init__()
        self.origin = type(self).__name__

    @property
    def encoder_fingerprint(self) -> str:
        """Hash of all that decides :meth:`encode`; priors that share an autoencoder share it.

        A prior that does not say better returns its whole fingerprint, and shares latents with none.
        """
        return self.fingerprint

    def networks(self) -> PriorNetworks | None:
        """Return its networks without values, whose work can be counted; None for a prior made of others."""
        return None

    @abstractmethod
    def encode(self, images: Tensor, *, generator: Generators = None) -> Tensor:
        """Encode images.

        Args:
            images: Float in [0, 1], ``(n, 3, h, w)``; resized to ``image_size`` if they differ.
            generator: CPU generator that draws from the posterior, or one for each image, so that an image does not
                depend on its batch; None takes the mode.

        Returns:
            Float32 latents ``(n, *latent_shape)``.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents to images in [0, 1], float32 ``(n, 3, image_size, image_size)``."""

    @abstractmethod
    def generate(
        self,
        latents: Tensor,
        class_ids: Tensor,
        *,
        generators: Sequence[torch.Generator],
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Noise latents part of the way, run the reverse diffusion for their classes, and decode.

        Args:
            latents: Float ``(n, *latent_shape)``.
            class_ids: int64 ``(n,)``.
            generators: One CPU generator per image, so that an image does not depend on its batch.
            sampling: Strength, guidance and steps.

        Returns:
            Images in [0, 1], float32 ``(n, 3, image_size, image_size)``.
        """

    def predict_noise(
        self, latents: Tensor, noise: Tensor, level: float, class_ids: Tensor | None = None
    ) -> Tensor:
        """Noise latents to a level of the schedule, and say what the diffusion model takes for their noise.

        Args:
            latents: Float ``(n, *latent_shape)``.
            noise: What they are noised with, standard normal, of the same shape.
            level: Share of the noise schedule, in (0, 1].
            class_ids: int64 ``(n,)``; None tells the model of no class.

        Returns:
            float32 ``(n, *latent_shape)``.

        Raises:
            UserError: If it has no diffusion model that could be asked.
        """
        raise UserError(
            f"The prior {self.origin} does not say what noise it sees: take one with a diffusion model, such as "
            "TrainedPrior, or PretrainedPrior with a DiT or Stable Diffusion."
        )
