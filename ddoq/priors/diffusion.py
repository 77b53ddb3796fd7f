"""The class-conditional latent diffusion prior: AutoencoderKL, DiT and a scheduler, all of diffusers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiTPipeline
from torch import Tensor, nn

from ddoq.errors import UserError
from ddoq.priors.latent import LatentDiffusionPrior
from ddoq.priors.loading import Opening, open_pipeline, parse_dtype
from ddoq.priors.schedulers import VARIANCE_READERS, scheduler_label
from ddoq.storage.fingerprints import hash_config, hash_module


class DiffusionPrior(LatentDiffusionPrior):
    """A diffusers DiT pipeline as a prior, such as ``facebook/DiT-XL-2-256`` or one trained here.

    diffusers' own pipeline opens the same folders and draws the same samples, but takes 1000 for the null class:
    with guidance it can run models of 1000 classes only. Here the null class follows the model.

    Args:
        pipeline: Autoencoder, transformer and scheduler.
        classes: For each class of the dataset, its number in the transformer, e.g. the ten ImageNet numbers of
            ImageNette; None where they are the same.
        guided_channels: Channels of the latents that guidance changes, the first ones; None is all. DiT's authors guide
            three of four, which their code calls a matter of exact reproducibility.

    Raises:
        UserError: If ``classes`` has a number that the transformer does not know, or there are fewer channels.
    """

    def __init__(
        self,
        pipeline: DiTPipeline,
        classes: Sequence[int] | None = None,
        guided_channels: int | None = None,
    ) -> None:
        config = pipeline.transformer.config
        known = config.num_embeds_ada_norm
        numbers = list(range(known)) if classes is None else list(classes)
        wrong = [number for number in numbers if not 0 <= number < known]
        if wrong or not numbers:
            reason = f"{wrong[0]} is none" if wrong else "there is none"
            raise UserError(
                f"prior.classes must be numbers of the DiT's classes, 0..{known - 1}: {reason}. Name a DiT that was "
                "trained on them, or correct the list."
            )
        twice = [number for i, number in enumerate(numbers) if number in numbers[:i]]
        if twice:
            raise UserError(
                f"prior.classes lists {twice[0]} more than once: every class needs its own."
            )
        shape = (config.in_channels, config.sample_size, config.sample_size)
        super().__init__(pipeline.vae, pipeline.scheduler, shape, len(numbers))
        if guided_channels is not None and not 1 <= guided_channels <= shape[0]:
            raise UserError(
                f"prior.guided_channels must be from 1 to the {shape[0]} channels of its latents, not {guided_channels}."
            )
        self.guided_channels = guided_channels
        self.transformer = pipeline.transformer
        self.names = dict(pipeline.config.get("id2label") or {})
        self.class_numbers: Tensor
        self.register_buffer("class_numbers", torch.tensor(numbers), persistent=False)
        self.requires_grad_(False).eval()
        self.fingerprint = self._hash(numbers)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: str | torch.dtype = torch.float32,
        scheduler: str | None = None,
        classes: Sequence[int] | None = None,
        variant: str | None = None,
        allow_pickle: bool = False,
        scheduler_settings: Mapping[str, Any] | None = None,
        guided_channels: int | None = None,
    ) -> Self:
        """Open a folder in the format of diffusers' ``DiTPipeline``, or a hub id.

        Args:
            source: The folder or the id.
            dtype: float32, bfloat16 or float16; images and latents are float32 all the same.
            scheduler: Class name of a diffusers scheduler; None takes the folder's own.
            classes: See the class.
            variant: See :class:`ddoq.priors.loading.Opening`.
            allow_pickle: See :class:`ddoq.priors.loading.Opening`.
            scheduler_settings: See :class:`ddoq.priors.loading.Opening`.
            guided_channels: See the class.

        Returns:
            The prior, on the CPU.

        Raises:
            UserError: If it cannot be opened; see :func:`ddoq.priors.loading.open_pipeline`.
        """
        opening = Opening(scheduler, variant, allow_pickle, scheduler_settings or {})
        pipeline = open_pipeline(str(source), parse_dtype(dtype), opening=opening)
        prior = cls(pipeline, classes, guided_channels)
        prior.origin = str(source)
        return prior

    def save(self, folder: Path) -> None:
        """Write a folder that this class and diffusers' ``DiTPipeline`` open."""
        save_pipeline(folder, self.vae, self.transformer, self.scheduler, self.names)

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        transformer: nn.Module = self.transformer
        return transformer

    def conditions(self, class_ids: Tensor) -> Tensor:
        """Return the transformer's numbers of classes, int64 ``(n,)``."""
        return self.class_numbers[class_ids]

    def null_conditions(self, class_ids: Tensor) -> Tensor:
        """Return the number of the null class, which follows the last class, n times."""
        return torch.full_like(class_ids, self.transformer.config.num_embeds_ada_norm)

    def predict(self, inputs: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Run the transformer; see :meth:`LatentDiffusionPrior.predict`."""
        output: Tensor = self.transformer(inputs, timestep=times, class_labels=conditions).sample
        return output

    def guide(self, predicted: Tensor, guidance_scale: float | None) -> Tensor:
        """Guide the channels that shall be; the others, and a variance that has a use, are the conditional half's.

        All channels of the mean are guided by default, as in diffusers' ``DiTPipeline`` with a VAE of as many. DiT's own
        sampler guides the first three alone: ``guided_channels=3``.
        """
        channels = self.latent_shape[0]
        guided = super().guide(predicted[:, : self.guided_channels or channels], guidance_scale)
        end = None if self._uses_variance else channels
        return torch.cat([guided, predicted[: len(guided), guided.shape[1] : end]], dim=1)

    @property
    def _uses_variance(self) -> bool:
        """Whether the scheduler reads the variance that the network predicts."""
        variance = str(self.scheduler.config.get("variance_type"))
        return type(self.scheduler).__name__ in VARIANCE_READERS and variance.startswith("learned")

    def _hash(self, numbers: list[int]) -> str:
        """Hash weights, configurations and the numbers of the classes."""
        parts = (self.vae, self.transformer, self.scheduler)
        configs = [
            {k: v for k, v in part.config.items() if not k.startswith("_")} for part in parts
        ]
        weights = [self._vae_hash, hash_module(self.transformer)]
        guided = [] if self.guided_channels is None else [{"guided": self.guided_channels}]
        return hash_config([scheduler_label(self.scheduler), configs, weights, numbers, *guided])


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
