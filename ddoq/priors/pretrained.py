"""A prior that is opened, from a folder or the hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ddoq.console import say
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.released_priors import RELEASED, folder_networks, released_networks
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.data.known_registries import imagenet_indices
from ddoq.errors import UserError
from ddoq.finite import check_weights
from ddoq.priors.base import Prior
from ddoq.priors.diffusion import DiffusionPrior
from ddoq.priors.latent import LatentDiffusionPrior
from ddoq.priors.loading import STABLE_DIFFUSION, check_inputs, find_format, parse_dtype
from ddoq.priors.schedulers import check_name, check_scheduler, check_settings, make_scheduler
from ddoq.priors.sources import PriorSource, check_classes
from ddoq.priors.stable_diffusion import StableDiffusionPrior

_REPLACE = "Take other weights: these are broken."


class PretrainedPrior(PriorSource):
    """Opens a diffusers pipeline, DiT or Stable Diffusion, from a folder or the Hugging Face hub.

    Stable Diffusion is told each class by its prompt, which the dataset states; DiT by its number.

    Args:
        path: The folder, or a hub id such as ``facebook/DiT-XL-2-256`` or
            ``stable-diffusion-v1-5/stable-diffusion-v1-5``.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        scheduler: Class name of a diffusers scheduler (:data:`ddoq.priors.schedulers.SCHEDULERS`); None takes the folder's
            own.
        classes: For each class of the dataset, its number in a DiT, where the dataset is a part of what the
            prior was trained on; ``imagenet`` finds the numbers in ImageNet-1K by WordNet id. None where classes
            are the same.
        negative_prompt: What guidance of Stable Diffusion leads away from.
        vae_slicing: Encode and decode image by image, which takes less memory.
        compile: Compile the networks by ``torch.compile``: minutes at the start, faster after. It needs a C++ compiler,
            on CUDA Triton. Images change by rounding; fingerprints and caches do not.
        variant: Which weights are read where a folder holds several, e.g. ``fp16`` for ``*.fp16.safetensors``.
        allow_pickle: Dangerous: read ``.bin`` files, too, where there is no ``.safetensors``. They are pickles, and opening
            one may run whatever its author put there.
        scheduler_settings: Settings of the scheduler in the place of the folder's: ``variance_type`` (``learned_range``
            reads what a DiT predicts), ``timestep_spacing``, ``clip_sample``.
        guided_channels: Channels of the latents that guidance of a DiT changes; None is all, its authors take 3.
    """

    stand_in = "ddoq.priors.TrainedPrior"

    def __init__(
        self,
        path: str,
        dtype: str = "float32",
        scheduler: str | None = None,
        classes: list[int] | Literal["imagenet"] | None = None,
        negative_prompt: str = "",
        vae_slicing: bool = False,
        compile: bool = False,
        variant: str | None = None,
        allow_pickle: bool = False,
        scheduler_settings: dict[str, Any] | None = None,
        guided_channels: int | None = None,
    ) -> None:
        parse_dtype(dtype)
        if scheduler is not None:
            check_name(scheduler)
        check_settings(scheduler, scheduler_settings or {})
        self.path = path
        self.dtype = dtype
        self.scheduler = scheduler
        self.classes = classes
        self.negative_prompt = negative_prompt
        self.vae_slicing = vae_slicing
        self.compile = compile
        self.variant = variant
        self.allow_pickle = allow_pickle
        self.scheduler_settings = scheduler_settings
        self.guided_channels = guided_channels

    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Prior:
        """Open the prior; see :meth:`PriorSource.obtain`. Nothing is cached or trained here."""
        prior: LatentDiffusionPrior
        if find_format(self.path) is STABLE_DIFFUSION:
            prior = self._open_stable_diffusion(data)
        else:
            prior = self._open_dit(data)
        check_weights(prior, f"The prior {self.path}", _REPLACE)
        if self.vae_slicing:
            prior.vae.enable_slicing()
        if self.compile:
            prior.compile_networks()
        say(f"prior: opened {self.path} ({prior.num_classes} classes, {prior.image_size} px)")
        return prior

    def workload(self, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
        """Read shapes alone, of a folder or of a released prior; see :meth:`PriorSource.workload`."""
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            networks = folder_networks(folder)
            check_inputs(networks.denoiser.config, self.path)
        elif self.path in RELEASED:
            networks = released_networks(self.path)
        else:
            note = (
                f"{self.path} is not here, and its shapes are known of {', '.join(RELEASED)} alone"
            )
            return None, [Stage.unknown("prior: open", note)]
        if self.scheduler is None:
            check_scheduler(type(networks.scheduler).__name__, networks.scheduler.config, self.path)
        else:
            networks.scheduler = make_scheduler(self.scheduler, networks.scheduler.config)
        return networks.to(parse_dtype(self.dtype)), []

    def _open_dit(self, data: ImageDataModule) -> DiffusionPrior:
        if self.negative_prompt:
            raise UserError(f"prior.negative_prompt has no meaning for the DiT {self.path}.")
        classes = imagenet_indices(data.classes) if self.classes == "imagenet" else self.classes
        prior = DiffusionPrior.from_pretrained(
            self.path, classes=classes, guided_channels=self.guided_channels, **self._opening()
        )
        check_classes(prior, data, self.path)
        return prior

    def _open_stable_diffusion(self, data: ImageDataModule) -> StableDiffusionPrior:
        if self.classes is not None:
            raise UserError(
                f"prior.classes has no meaning for {self.path}: Stable Diffusion is told classes by the dataset's "
                "prompts."
            )
        if self.guided_channels is not None:
            raise UserError(
                f"prior.guided_channels has no meaning for {self.path}: Stable Diffusion guides all channels."
            )
        return StableDiffusionPrior.from_pretrained(
            self.path,
            prompts=data.classes.prompts,
            negative_prompt=self.negative_prompt,
            **self._opening(),
        )

    def _opening(self) -> dict[str, Any]:
        """Return how either kind of pipeline is opened."""
        names = ("dtype", "scheduler", "variant", "allow_pickle", "scheduler_settings")
        return {name: getattr(self, name) for name in names}
