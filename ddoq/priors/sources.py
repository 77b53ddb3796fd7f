"""Where a prior comes from: trained on the dataset, or opened from a folder or the hub."""

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from diffusers import AutoencoderKL

from ddoq.console import say
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.released_priors import RELEASED, folder_networks, released_networks
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.data.known_registries import imagenet_indices
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, check_weights
from ddoq.optimisation.trainers import device_of
from ddoq.precision import Precision, check_precision
from ddoq.priors.base import Prior
from ddoq.priors.diffusion import DiffusionPrior, save_pipeline
from ddoq.priors.latent import LatentDiffusionPrior
from ddoq.priors.loading import STABLE_DIFFUSION, check_inputs, find_format, parse_dtype
from ddoq.priors.schedulers import check_name, check_scheduler, check_settings, make_scheduler
from ddoq.priors.stable_diffusion import StableDiffusionPrior
from ddoq.priors.training.config import DiTConfig, VAEConfig, check_image_size
from ddoq.priors.training.dit import train_dit
from ddoq.priors.training.report import save_reconstructions, save_samples
from ddoq.priors.training.vae import train_vae
from ddoq.priors.training.workload import training_workload
from ddoq.seeding import check_seed
from ddoq.smoke import Tiny
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.damage import DamagedError
from ddoq.storage.files import read_json, write_json
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.folders import build_once, obtain_folder
from ddoq.storage.records import hashed_fields
from ddoq.storage.run_folder import RunFolder

_RETRAIN = (
    "Delete that folder and train again with a lower learning rate (prior.init_args.vae and .dit)."
)
_REPLACE = "Take other weights: these are broken."

# Raised whenever a change of code changes what training makes, so that old priors are not reused.
TRAINING_FORMAT = 1


class PriorSource(Tiny, ABC):
    """Says where the prior of a run comes from."""

    @abstractmethod
    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Prior:
        """Make or open the prior.

        Args:
            data: The dataset, set up.
            cache: Root of the cache folder.
            trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.

        Returns:
            The prior, on the CPU.

        Raises:
            UserError: If it cannot be had, or does not fit the dataset.
        """

    def workload(self, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
        """Say what obtaining the prior will take; ``ddoq-bench plan`` shows it.

        Args:
            sizes: Of the dataset.

        Returns:
            Its networks without values, None where they cannot be known, and the stages.
        """
        note = f"{type(self).__name__} does not say what it takes"
        return None, [Stage.unknown("prior: obtain", note)]


class TrainedPrior(PriorSource):
    """Trains an autoencoder and a diffusion transformer on the dataset, once, and reuses them.

    They are cached one by one, so that transformers of different sizes share an autoencoder. A training that is killed
    goes on from its last checkpoint, and ends with the same bits.

    Args:
        vae: The autoencoder and its training.
        dit: The diffusion transformer and its training.
        seed: Decides all randomness of both.
        compile: Compile the networks by ``torch.compile`` when they distil; training stays as it is.
        precision: ``bf16-mixed`` trains both with passes in bfloat16; the weights are float32, and so is all that they
            compute when they distil.
    """

    def __init__(
        self,
        vae: VAEConfig = VAEConfig(),  # noqa: B008 - frozen
        dit: DiTConfig = DiTConfig(),  # noqa: B008 - frozen
        seed: int = 0,
        compile: bool = False,
        precision: Precision = "32-true",
    ) -> None:
        check_precision("prior.precision", precision)
        self.compile = compile
        self.precision = precision
        self.vae = vae
        self.dit = dit
        self.seed = check_seed("prior.seed", seed)

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train the smallest networks for two steps."""
        training = {"steps": 2, "batch_size": 8}
        vae = {"channels": [8, 8], "layers_per_block": 1, "attention": False, **training}
        dit = {"layers": 1, "heads": 2, "head_dim": 8, "patch_size": 2, **training}
        return {
            **super().tiny(given),
            "vae": {**given.get("vae", {}), **vae},
            "dit": {**given.get("dit", {}), **dit},
        }

    def folders(self, data: ImageDataModule, cache: Path) -> tuple[Path, Path]:
        """Return where autoencoder and whole prior are, or will be, cached."""
        vae_key, key = self._keys(data)
        run = RunFolder(cache)
        return run.prior(f"vae-{vae_key}"), run.prior(f"prior-{key}")

    def _keys(self, data: ImageDataModule) -> tuple[str, str]:
        """Hash what decides the autoencoder, and what decides the whole prior."""
        base = {
            "vae": hashed_fields(self.vae),
            "seed": self.seed,
            "data": data.train_fingerprint,
            "precision": self.precision,
            "format": TRAINING_FORMAT,
        }
        dit = hashed_fields(self.dit)
        if self.precision != "32-true":  # rounds otherwise since attention is written out
            dit["attention"] = 2
        return hash_config(base), hash_config({**base, "dit": dit})

    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Prior:
        """Train the prior or reuse it; see :meth:`PriorSource.obtain`.

        Raises:
            UserError: If a checkpoint of a training that was killed cannot be used.
            NotFiniteError: If a training diverges; nothing is kept of it. An autoencoder that is sound is kept.
        """
        check_image_size(data.image_size, self.vae, self.dit)
        trainer = {**trainer, "precision": self.precision}
        keys = self._keys(data)
        vae_folder, folder = folders = self.folders(data, cache)
        checkpoints = [Checkpoint.beside(*pair) for pair in zip(folders, keys, strict=True)]
        started = time.perf_counter()

        def build(target: Path) -> None:
            build_once(vae_folder, lambda t: self._build_vae(t, data, trainer, checkpoints[0]))
            checkpoints[0].clear()
            self._build_prior(target, vae_folder, data, trainer, checkpoints[1])

        def load(target: Path) -> tuple[DiffusionPrior, float]:
            prior = DiffusionPrior.from_pretrained(target)
            check_weights(prior, f"The prior in {target}", _RETRAIN)
            return prior, _psnr(target / "training.json")

        try:
            (prior, psnr), built = obtain_folder(folder, build, load)
        except NotFiniteError:
            _clear(checkpoints)  # nobody shall go on from there
            raise
        _clear(checkpoints)
        took = f"trained in {time.perf_counter() - started:.0f} s" if built else "reused"
        say(f"prior: {took}, reconstruction PSNR {psnr:.1f} dB, in {folder}")
        _check_classes(prior, data, str(folder))
        if self.compile:
            prior.compile_networks()
        return prior

    def workload(self, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
        """Count the training of both networks; see :meth:`PriorSource.workload`."""
        return training_workload(self.vae, self.dit, sizes)

    def _build_vae(
        self,
        target: Path,
        data: ImageDataModule,
        trainer: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> None:
        """Train the autoencoder, and fill a folder with it."""
        say(f"prior: training the autoencoder, {self.vae.steps} steps")
        vae, record = train_vae(
            self.vae, data, seed=self.seed, trainer=trainer, checkpoint=checkpoint
        )
        save_reconstructions(target / "reconstructions.png", vae, data)
        vae.save_pretrained(target / "vae")
        write_json(target / "training.json", {"dataset": data.describe(), "vae": record})

    def _build_prior(
        self,
        target: Path,
        vae_folder: Path,
        data: ImageDataModule,
        trainer: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> None:
        """Train the transformer, and fill a folder with the whole prior."""
        vae = AutoencoderKL.from_pretrained(
            vae_folder / "vae", low_cpu_mem_usage=False, use_safetensors=True
        )
        vae.eval().requires_grad_(False)
        check_weights(vae, f"The autoencoder in {vae_folder}", _RETRAIN)
        if not math.isfinite(vae.config.scaling_factor):  # of a version that kept what had diverged
            raise NotFiniteError(
                f"The autoencoder in {vae_folder} has a scaling_factor that is not finite. {_RETRAIN}"
            )
        say(f"prior: training the diffusion transformer, {self.dit.steps} steps")
        dit, scheduler, record = train_dit(
            self.dit, vae, data, seed=self.seed, trainer=trainer, checkpoint=checkpoint
        )
        names = {info.index: info.name for info in data.classes}
        save_pipeline(target, vae, dit, scheduler, names)
        prior = DiffusionPrior.from_pretrained(target).to(device_of(trainer))
        try:
            save_samples(target, prior, data, seed=self.seed)
        except NotFiniteError as error:
            raise NotFiniteError(
                f"prior: the diffusion transformer diverged: {error} Lower prior.init_args.dit.learning_rate (now "
                f"{self.dit.learning_rate:g})."
            ) from None
        picture = vae_folder / "reconstructions.png"
        if picture.is_file():
            shutil.copy(picture, target)
        else:
            save_reconstructions(target / picture.name, vae, data)
        earlier = read_json(vae_folder / "training.json")
        write_json(target / "training.json", {**earlier, "dit": record})


def _psnr(path: Path) -> float:
    """Read how well an autoencoder reconstructs the test images, in dB."""
    try:
        return float(read_json(path)["vae"]["test_psnr"])
    except (KeyError, TypeError, ValueError):
        raise DamagedError(path, "does not say how its autoencoder was tested") from None


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
        _check_classes(prior, data, self.path)
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


def _clear(checkpoints: Sequence[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        checkpoint.clear()


def _check_classes(prior: DiffusionPrior, data: ImageDataModule, where: str) -> None:
    """Refuse a prior for another number of classes."""
    if prior.num_classes != data.num_classes:
        raise UserError(
            f"The prior {where} has {prior.num_classes} classes, {data.name} has {data.num_classes}. Use a prior "
            "that was trained on this dataset, or set prior.classes: `imagenet` finds the numbers in ImageNet-1K by "
            "WordNet id, a list gives the prior's number of each class."
        )
