"""Where a prior comes from; one that is trained on the dataset."""

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL

from ddoq.console import say
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, check_weights
from ddoq.optimisation.trainers import device_of
from ddoq.precision import Precision, check_precision
from ddoq.priors.base import Prior
from ddoq.priors.diffusion import DiffusionPrior, save_pipeline
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
from ddoq.teachers.trained import TrainedTeacher

_RETRAIN = (
    "Delete that folder and train again with a lower learning rate (prior.init_args.vae and .dit)."
)

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


def check_classes(prior: DiffusionPrior, data: ImageDataModule, where: str) -> None:
    """Refuse a prior for another number of classes."""
    if prior.num_classes != data.num_classes:
        raise UserError(
            f"The prior {where} has {prior.num_classes} classes, {data.name} has {data.num_classes}. Use a prior "
            "that was trained on this dataset, or set prior.classes: `imagenet` finds the numbers in ImageNet-1K by "
            "WordNet id, a list gives the prior's number of each class."
        )


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
        features: A classifier that is trained on the dataset for the autoencoder alone, which then also learns to
            reconstruct what its last layer sees; ``vae.feature_weight`` says how much that counts. It should not be
            the teacher that judges the images later.

    Raises:
        UserError: If there are features without a weight, or a weight without features.
    """

    def __init__(
        self,
        vae: VAEConfig = VAEConfig(),  # noqa: B008 - frozen
        dit: DiTConfig = DiTConfig(),  # noqa: B008 - frozen
        seed: int = 0,
        compile: bool = False,
        precision: Precision = "32-true",
        features: TrainedTeacher | None = None,
    ) -> None:
        check_precision("prior.precision", precision)
        if (features is None) != (vae.feature_weight == 0):
            raise UserError(
                f"prior.vae.feature_weight is {vae.feature_weight:g} and prior.features is "
                f"{'missing' if features is None else 'given'}: give both, the weight above 0, or neither."
            )
        self.features = features
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
        if self.features is not None:
            base["features"] = self.features.settings_for(data)
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
            build_once(
                vae_folder, lambda t: self._build_vae(t, data, cache, trainer, checkpoints[0])
            )
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
        check_classes(prior, data, str(folder))
        if self.compile:
            prior.compile_networks()
        return prior

    def workload(self, sizes: Sizes) -> tuple[PriorNetworks | None, list[Stage]]:
        """Count the training of both networks; see :meth:`PriorSource.workload`."""
        if self.features is None:
            return training_workload(self.vae, self.dit, sizes)
        classifier, earlier = self.features.workload(sizes)
        networks, stages = training_workload(self.vae, self.dit, sizes, classifier)
        renamed = [replace(s, name=s.name.replace("teacher", "prior: features")) for s in earlier]
        return networks, [*renamed, *stages]

    def _build_vae(
        self,
        target: Path,
        data: ImageDataModule,
        cache: Path,
        trainer: Mapping[str, Any],
        checkpoint: Checkpoint,
    ) -> None:
        """Train the autoencoder, and fill a folder with it."""
        classifier = None if self.features is None else self.features.obtain(data, cache, trainer)
        say(f"prior: training the autoencoder, {self.vae.steps} steps")
        vae, record = train_vae(
            self.vae,
            data,
            seed=self.seed,
            trainer=trainer,
            checkpoint=checkpoint,
            classifier=classifier,
        )
        if classifier is not None:
            record["features"] = {"arch": classifier.arch, "accuracy": classifier.accuracy}
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


def _clear(checkpoints: Sequence[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        checkpoint.clear()
