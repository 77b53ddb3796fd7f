"""The class-conditional latent diffusion prior: AutoencoderKL, DiT and a scheduler, all of diffusers."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDPMScheduler, DiTPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.errors import UserError
from ddoq.fingerprints import hash_config, hash_module
from ddoq.priors.base import Prior, Sampling
from ddoq.priors.loading import make_scheduler, open_pipeline, parse_dtype

# Latents of a scaled VAE have a standard deviation near 1; this far off, its scaling factor was forgotten.
_PLAUSIBLE_STD = (1 / 3, 3.0)


class DiffusionPrior(Prior):
    """A diffusers DiT pipeline as a prior, such as ``facebook/DiT-XL-2-256`` or one trained here.

    diffusers' own pipeline opens the same folders and draws the same samples, but takes 1000 for the null class:
    with guidance it can run models of 1000 classes only. Here the null class follows the model.

    Args:
        pipeline: Autoencoder, transformer and scheduler.
        classes: For each class of the dataset, its number in the transformer, e.g. the ten ImageNet numbers of
            ImageNette; None where they are the same.

    Raises:
        UserError: If ``classes`` has a number that the transformer does not know.
    """

    def __init__(self, pipeline: DiTPipeline, classes: Sequence[int] | None = None) -> None:
        super().__init__()
        self.vae = pipeline.vae
        self.transformer = pipeline.transformer
        self.scheduler = pipeline.scheduler
        self.names = dict(pipeline.config.get("id2label") or {})
        known = self.transformer.config.num_embeds_ada_norm
        numbers = list(range(known)) if classes is None else list(classes)
        if not numbers or min(numbers) < 0 or max(numbers) >= known:
            raise UserError(f"prior.classes must be numbers in 0..{known - 1}, not {numbers}.")
        self.class_numbers: Tensor
        self.register_buffer("class_numbers", torch.tensor(numbers), persistent=False)
        self.num_classes: int = len(numbers)
        channels, side = self.transformer.config.in_channels, self.transformer.config.sample_size
        self.latent_shape = (channels, side, side)
        self.image_size: int = side * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.requires_grad_(False).eval()
        self.fingerprint = self._hash(numbers)
        self._std_checked = False

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: str | torch.dtype = torch.float32,
        scheduler: str | None = None,
        classes: Sequence[int] | None = None,
    ) -> Self:
        """Open a folder in the format of diffusers' ``DiTPipeline``, or a hub id.

        Args:
            source: The folder or the id.
            dtype: float32 or bfloat16; images and latents are float32 all the same.
            scheduler: Class name of a diffusers scheduler; None takes the folder's own.
            classes: See the class.

        Returns:
            The prior, on the CPU.

        Raises:
            UserError: If it cannot be opened; see :func:`ddoq.priors.loading.open_pipeline`.
        """
        pipeline = open_pipeline(str(source), parse_dtype(dtype))
        if scheduler is not None:
            pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config)
        return cls(pipeline, classes)

    def save(self, folder: Path) -> None:
        """Write a folder that this class and diffusers' ``DiTPipeline`` open."""
        save_pipeline(folder, self.vae, self.transformer, self.scheduler, self.names)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: in training mode a DiT hides class labels at random."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.class_numbers.device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    @torch.no_grad()
    def encode(self, images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Encode images; see :meth:`Prior.encode`."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise UserError(
                f"Images to encode must be float (n, 3, h, w), not {images.dtype} {tuple(images.shape)}."
            )
        images = images.to(self.device)
        if images.shape[-2:] != (self.image_size, self.image_size):
            images = tv.resize(images, [self.image_size] * 2, antialias=True)
        posterior = self.vae.encode((images * 2 - 1).to(self.dtype)).latent_dist
        drawn = posterior.mode() if generator is None else posterior.sample(generator)
        latents: Tensor = (drawn.float() - self._shift) * self._scale
        self._check_scaling(latents)
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents; see :meth:`Prior.decode`."""
        self._check_shape(latents)
        unscaled = latents.to(self.device, torch.float32) / self._scale + self._shift
        decoded: Tensor = self.vae.decode(unscaled.to(self.dtype)).sample.float()
        return (decoded / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
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

    def _denoise(
        self,
        noisy: Tensor,
        class_ids: Tensor,
        times: Tensor,
        generators: Sequence[torch.Generator],
        guidance_scale: float,
    ) -> Tensor:
        """Run the reverse diffusion over ``times``; the state is float32 whatever the network computes in."""
        numbers = self.class_numbers[class_ids]
        guided = guidance_scale > 1.0
        if guided:
            no_class = torch.full_like(numbers, self.transformer.config.num_embeds_ada_norm)
            numbers = torch.cat([numbers, no_class])
        extra: dict[str, Any] = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            extra["generator"] = list(generators)
        for time in times:
            scaled = self.scheduler.scale_model_input(noisy, time)
            inputs = (torch.cat([scaled, scaled]) if guided else scaled).to(self.dtype)
            now = time.to(self.device).expand(len(inputs))
            predicted = self.transformer(inputs, timestep=now, class_labels=numbers).sample.float()
            output = self._combine(predicted, guidance_scale if guided else None)
            noisy = self.scheduler.step(output, time, noisy, **extra).prev_sample
        return noisy

    def _combine(self, predicted: Tensor, guidance_scale: float | None) -> Tensor:
        """Guide the prediction, and drop the learned variance where the scheduler has no use for it."""
        if guidance_scale is not None:
            channels = self.latent_shape[0]
            conditional, unconditional = predicted.chunk(2)
            mean, without = conditional[:, :channels], unconditional[:, :channels]
            guided = without + guidance_scale * (mean - without)
            # As in DiT's own sampler, only the mean is guided.
            predicted = torch.cat([guided, conditional[:, channels:]], dim=1)
        if self._uses_variance:
            return predicted
        return predicted[:, : self.latent_shape[0]]

    @property
    def _uses_variance(self) -> bool:
        """Whether the scheduler reads the variance that the network predicts."""
        variance = str(self.scheduler.config.get("variance_type"))
        return isinstance(self.scheduler, DDPMScheduler) and variance.startswith("learned")

    @property
    def _scale(self) -> float:
        """Factor of latents over what the encoder gives."""
        factor = self.vae.config.get("scaling_factor")
        return 1.0 if factor is None else float(factor)

    @property
    def _shift(self) -> float:
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
        self.scheduler.set_timesteps(steps)

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
        if class_ids.shape != (n,) or class_ids.is_floating_point():
            raise UserError(
                f"class_ids must be {n} integers, not {class_ids.dtype} {tuple(class_ids.shape)}."
            )
        if len(generators) != n:
            raise UserError(f"{n} images need {n} generators, not {len(generators)}.")
        if n and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < self.num_classes:
            raise UserError(
                f"class_ids must be in 0..{self.num_classes - 1}; got {sorted(set(class_ids.tolist()))}."
            )
        return class_ids.to(self.device, torch.long)

    def _check_scaling(self, latents: Tensor) -> None:
        """Refuse, at the first batch, an autoencoder that was never given a scaling factor."""
        if self._std_checked or latents.numel() == 0:
            return
        self._std_checked = True
        std = float(latents.std())
        low, high = _PLAUSIBLE_STD
        if self._scale == 1.0 and not low <= std <= high:
            raise UserError(
                f"vae/config.json has no scaling_factor (or 1.0), but its latents have a standard deviation of "
                f"{std:.3g}. Set scaling_factor to about {1 / max(std, 1e-12):.3g}, the value the transformer was "
                "trained with."
            )

    def _hash(self, numbers: list[int]) -> str:
        """Hash weights, configurations and the numbers of the classes."""
        parts = (self.vae, self.transformer, self.scheduler)
        configs = [
            {k: v for k, v in part.config.items() if not k.startswith("_")} for part in parts
        ]
        weights = [hash_module(self.vae), hash_module(self.transformer)]
        return hash_config([type(self.scheduler).__name__, configs, weights, numbers])


def save_pipeline(
    folder: Path, vae: Any, transformer: Any, scheduler: Any, names: dict[Any, str]
) -> None:
    """Write a DiT pipeline in diffusers' format.

    Args:
        folder: Where to.
        vae: ``AutoencoderKL``.
        transformer: ``DiTTransformer2DModel``.
        scheduler: Any diffusers scheduler.
        names: Class names by number, for ``DiTPipeline.get_label_ids``.
    """
    pipeline = DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler)
    pipeline.register_to_config(id2label={str(number): name for number, name in names.items()})
    pipeline.save_pretrained(folder)
