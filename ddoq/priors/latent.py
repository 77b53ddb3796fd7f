"""What all latent diffusion priors share: the autoencoder, the start from latents and the denoising loop."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from ddoq.console import say
from ddoq.costs.flops import on_meta
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, is_finite
from ddoq.precision import without_autocast
from ddoq.priors.base import Generators, Prior, Sampling
from ddoq.priors.noising import add_noise, as_noise, noise_level
from ddoq.priors.schedulers import extra_arguments
from ddoq.storage.fingerprints import hash_config, hash_module

# Latents of a scaled VAE have a standard deviation near 1; this far off, its scaling factor was forgotten.
_PLAUSIBLE_STD = (1 / 3, 3.0)
# Settings of an autoencoder that do not change what it encodes to.
_NO_ENCODING = ("sample_size", "force_upcast")


class LatentDiffusionPrior(Prior):
    """A diffusers autoencoder, a denoising network in its latent space and a scheduler.

    A subclass says what stands for a class, and how the network predicts: :meth:`conditions`,
    :meth:`null_conditions` and :meth:`predict`.

    Args:
        vae: ``AutoencoderKL``.
        scheduler: Any diffusers scheduler that takes its noise from the caller.
        latent_shape: Shape of one latent, ``(c, h, w)``.
        num_classes: Number of classes that it can be asked for.
    """

    def __init__(
        self, vae: Any, scheduler: Any, latent_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        self.vae = vae
        self.scheduler = scheduler
        self.latent_shape = latent_shape
        self.num_classes: int = num_classes
        self.image_size: int = latent_shape[1] * 2 ** (len(vae.config.block_out_channels) - 1)
        self._std_checked = False
        self._vae_hash = hash_module(vae)

    @property
    def encoder_fingerprint(self) -> str:
        """Hash of the autoencoder with its scaling, and of the size at which it sees images.

        Neither the denoising network nor the scheduler counts: a DiT and a Stable Diffusion with the same
        autoencoder at the same size share their latents.
        """
        config = {k: v for k, v in self.vae.config.items() if k not in _NO_ENCODING and k[0] != "_"}
        return hash_config([config, self._vae_hash, self.latent_shape, self.image_size])

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The denoising network."""

    def networks(self) -> PriorNetworks:
        """Return autoencoder, denoising network, scheduler and text encoder; see :meth:`Prior.networks`."""
        text_encoder = getattr(self, "text_encoder", None)
        return on_meta(PriorNetworks(self.vae, self.denoiser, self.scheduler, text_encoder))

    def compile_networks(self) -> None:
        """Compile denoiser, encoder and decoder by ``torch.compile`` when they are first called.

        Modules, state dicts and fingerprints stay what they are; numbers change by rounding. A second batch size
        compiles once more, then any size runs.
        """
        for network in (self.denoiser, self.vae.encoder, self.vae.decoder):
            network.compile()

    @abstractmethod
    def conditions(self, class_ids: Tensor) -> Tensor:
        """Return what the network is told of classes, int64 ``(n,)``: a tensor of length n."""

    @abstractmethod
    def null_conditions(self, class_ids: Tensor) -> Tensor:
        """Return what it is told instead in the unconditional half of guidance, in the same shape."""

    def no_conditions(self, count: int) -> Tensor:
        """Return what the network is told of no class at all, as often as asked; that of guidance, unless overridden."""
        return self.null_conditions(torch.zeros(count, dtype=torch.long, device=self.device))

    @abstractmethod
    def predict(self, inputs: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Run the denoising network on ``(n, *latent_shape)`` at times ``(n,)``."""

    def guide(self, predicted: Tensor, guidance_scale: float | None) -> Tensor:
        r"""Combine predictions by classifier-free guidance, :math:`u + s (c - u)`.

        Args:
            predicted: The conditional half, then the unconditional one; without guidance the first alone.
            guidance_scale: The scale s; None where there is no guidance.

        Returns:
            What the scheduler is given.
        """
        if guidance_scale is None:
            return predicted
        conditional, unconditional = predicted.chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: in training mode a DiT hides class labels at random."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.vae.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        dtype: torch.dtype = next(self.vae.parameters()).dtype
        return dtype

    @torch.no_grad()
    @without_autocast()
    def encode(self, images: Tensor, *, generator: Generators = None) -> Tensor:
        """Encode images; see :meth:`Prior.encode`."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"Images to encode must be float (n, 3, h, w), not {images.dtype} {tuple(images.shape)}."
            )
        images = images.to(self.device)
        if images.shape[-2:] != (self.image_size, self.image_size):
            images = tv.resize(images, [self.image_size] * 2, antialias=True)
        if isinstance(generator, Sequence) and len(generator) != len(images):
            raise UserError(
                f"{len(images)} images need {len(images)} generators, not {len(generator)}."
            )
        posterior = self.vae.encode((images * 2 - 1).to(self.dtype)).latent_dist
        drawn = posterior.mode() if generator is None else posterior.sample(generator)
        latents: Tensor = (drawn.float() - self.shift) * self.scale
        self._check_scaling(latents)
        return latents

    @torch.no_grad()
    @without_autocast()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents; see :meth:`Prior.decode`.

        Raises:
            NotFiniteError: If an image is NaN or infinite; clipped to [0, 1] it would be black.
        """
        self._check_shape(latents)
        unscaled = latents.to(self.device, torch.float32) / self.scale + self.shift
        decoded: Tensor = self.vae.decode(unscaled.to(self.dtype)).sample.float()
        if not is_finite(decoded):
            raise NotFiniteError(self._broken_images(latents))
        return (decoded / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    @without_autocast()
    def generate(
        self,
        latents: Tensor,
        class_ids: Tensor,
        *,
        generators: Sequence[torch.Generator],
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Noise latents, denoise them for their classes, and decode; see :meth:`Prior.generate`.

        Strength works as in diffusers' image-to-image pipelines: the last ``int(steps * strength)`` steps are run,
        from latents noised to the first of them. Even strength 1 leaves what the schedule leaves there.

        Raises:
            UserError: If shapes, numbers of generators or classes do not fit.
        """
        sampling = sampling or Sampling()
        self._check_shape(latents)
        class_ids = self._check_items(class_ids, generators, len(latents))
        latents = latents.to(self.device, torch.float32)
        steps = sampling.num_inference_steps
        run = min(int(steps * sampling.strength), steps)
        if run < 1:
            raise UserError(
                f"sampling.strength {sampling.strength} of {steps} steps leaves none to run. Raise one of them."
            )
        self._set_steps(steps)
        begin = (steps - run) * self.scheduler.order
        times = self.scheduler.timesteps[begin:]
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(begin)
        noise = self._noise(generators)
        noisy = self.scheduler.add_noise(latents, noise, times[:1].repeat(len(latents)))
        return self.decode(
            self._denoise(noisy, class_ids, times, generators, sampling.guidance_scale)
        )

    @torch.no_grad()
    @without_autocast()
    def sample(
        self,
        class_ids: Tensor,
        *,
        generators: Sequence[torch.Generator],
        sampling: Sampling | None = None,
    ) -> Tensor:
        """Generate images from nothing but noise.

        Args:
            class_ids: int64 ``(n,)``.
            generators: One CPU generator per image.
            sampling: Guidance and steps; the strength is not used.

        Returns:
            Images in [0, 1], float32 ``(n, 3, image_size, image_size)``.

        Raises:
            UserError: If numbers of generators or classes do not fit.
        """
        sampling = sampling or Sampling()
        class_ids = self._check_items(class_ids, generators, len(class_ids))
        self._set_steps(sampling.num_inference_steps)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(0)
        noise = self._noise(generators) * self.scheduler.init_noise_sigma
        times = self.scheduler.timesteps
        return self.decode(
            self._denoise(noise, class_ids, times, generators, sampling.guidance_scale)
        )

    @torch.no_grad()
    @without_autocast()
    def predict_noise(
        self, latents: Tensor, noise: Tensor, level: float, class_ids: Tensor | None = None
    ) -> Tensor:
        """Noise latents and ask the network for the noise; see :meth:`Prior.predict_noise`.

        What a network was trained to predict makes no difference, nor do a variance beside it and the scheduler by which
        it samples.
        """
        self._check_shape(latents)
        step, signal = noise_level(self.scheduler, level, self.origin)
        latents, noise = (part.to(self.device, torch.float32) for part in (latents, noise))
        noisy = add_noise(latents, noise, signal)
        if class_ids is None:
            conditions = self.no_conditions(len(latents))
        else:
            conditions = self.conditions(self._check_classes(class_ids, len(latents)))
        times = torch.full((len(latents),), step, device=self.device)
        predicted = self.predict(noisy.to(self.dtype), times, conditions).float()
        kind = str(self.scheduler.config.prediction_type)
        return as_noise(predicted[:, : self.latent_shape[0]], noisy, signal, kind, self.origin)

    def _denoise(
        self,
        noisy: Tensor,
        class_ids: Tensor,
        times: Tensor,
        generators: Sequence[torch.Generator],
        guidance_scale: float,
    ) -> Tensor:
        """Run the reverse diffusion over ``times``; the state is float32 whatever the network computes in."""
        scale = guidance_scale if guidance_scale > 1.0 else None
        conditions = self.conditions(class_ids)
        if scale is not None:
            conditions = torch.cat([conditions, self.null_conditions(class_ids)])
        extra = extra_arguments(self.scheduler, list(generators))
        for time in times:
            scaled = self.scheduler.scale_model_input(noisy, time)
            inputs = (scaled if scale is None else torch.cat([scaled, scaled])).to(self.dtype)
            now = time.to(self.device).expand(len(inputs))
            output = self.guide(self.predict(inputs, now, conditions).float(), scale)
            noisy = self.scheduler.step(output, time, noisy, **extra).prev_sample
        return noisy

    @property
    def scale(self) -> float:
        """Factor of latents over what the encoder gives."""
        factor = self.vae.config.get("scaling_factor")
        return 1.0 if factor is None else float(factor)

    @property
    def shift(self) -> float:
        """What is taken from the encoder's output before scaling; most autoencoders have none."""
        return float(self.vae.config.get("shift_factor") or 0.0)

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw the noise of every image from its own generator, float32 whatever the network computes in."""
        shape = (len(generators), *self.latent_shape)
        noise: Tensor = randn_tensor(
            shape, generator=list(generators), device=self.device, dtype=torch.float32
        )
        return noise

    def _set_steps(self, steps: int) -> None:
        """Tell the scheduler how many steps to take of its schedule; this also clears its history."""
        longest = self.scheduler.config.num_train_timesteps
        if steps > longest:
            raise UserError(
                f"sampling.num_inference_steps is {steps}; this prior has at most {longest}."
            )
        try:
            self.scheduler.set_timesteps(steps)
        except (
            ValueError
        ) as error:  # LCM and TCD know fewer steps than their model was trained with
            raise UserError(
                f"sampling.num_inference_steps is {steps}, which {type(self.scheduler).__name__} refuses: {error}"
            ) from None

    def _broken_images(self, latents: Tensor) -> str:
        """Say what is wrong where decoded images are not finite: the latents, or the decoder."""
        half = self.dtype == torch.float16
        mend = "Set prior.init_args.dtype to float32 or bfloat16: it may overflow in float16."
        if is_finite(latents):
            cause = (
                "though their latents are: the autoencoder's weights are broken, or it overflows"
            )
            other = "Train or choose another autoencoder."
        else:
            cause = "and so are the latents that the diffusion model made"
            other = "Lower sampling.guidance_scale, choose another scheduler, or train the diffusion model anew."
        return f"Images of the prior {self.origin} are not finite (NaN or infinite), {cause}. {mend if half else other}"

    def _check_shape(self, latents: Tensor) -> None:
        """Refuse latents of another shape."""
        if tuple(latents.shape[1:]) != self.latent_shape or latents.ndim != 4:
            raise UserError(
                f"Latents must be (n, {', '.join(map(str, self.latent_shape))}), not {tuple(latents.shape)}."
            )

    def _check_items(
        self, class_ids: Tensor, generators: Sequence[torch.Generator], n: int
    ) -> Tensor:
        """Refuse classes or generators that do not fit ``n`` images; return the classes on the device."""
        if len(generators) != n:
            raise UserError(f"{n} images need {n} generators, not {len(generators)}.")
        return self._check_classes(class_ids, n)

    def _check_classes(self, class_ids: Tensor, n: int) -> Tensor:
        """Refuse classes that do not fit ``n`` images; return them on the device."""
        if class_ids.shape != (n,) or class_ids.is_floating_point():
            raise UserError(
                f"class_ids must be {n} integers, not {class_ids.dtype} {tuple(class_ids.shape)}."
            )
        if n and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < self.num_classes:
            raise UserError(
                f"class_ids must be in 0..{self.num_classes - 1}; got {sorted(set(class_ids.tolist()))}."
            )
        return class_ids.to(self.device, torch.long)

    def _check_scaling(self, latents: Tensor) -> None:
        """Look, at the first batch, whether the autoencoder's scaling factor fits its latents.

        A factor that nobody set is refused, one that somebody did is only doubted: unusual images may be the reason.
        """
        if self._std_checked or latents.numel() == 0:
            return
        self._std_checked = True
        std = float(latents.std())
        low, high = _PLAUSIBLE_STD
        if low <= std <= high or not math.isfinite(
            std
        ):  # what is not finite is somebody else's error
            return
        # diffusers takes Stable Diffusion's 0.18215 where config.json has none.
        unset = "scaling_factor" in (self.vae.config.get("_use_default_values") or [])
        observed = f"latents of its first batch have a standard deviation of {std:.3g}; the diffusion model expects about 1"
        mend = f"{self.scale / max(std, 1e-12):.3g}"
        if unset or self.scale == 1.0:
            taken = f" (so that {self.scale:g} was taken)" if unset else " (or 1.0)"
            raise UserError(
                f"{self.origin}: vae/config.json has no scaling_factor{taken}, but {observed}. Set it to about {mend}, "
                "the value the diffusion model was trained with."
            )
        say(
            f"prior: WARNING {self.origin}: scaling_factor is {self.scale:g} in vae/config.json, but {observed}. "
            f"If the images are ordinary ones, it should be near {mend}."
        )
