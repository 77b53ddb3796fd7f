"""Training of a variational autoencoder."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from diffusers import AutoencoderKL
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.nn import functional as F

from ddoq.console import Progress
from ddoq.data.base import ImageDataModule
from ddoq.data.splits import ImageSplit
from ddoq.finite import DivergedError, is_finite
from ddoq.images import to_float
from ddoq.networks.features import penultimate
from ddoq.objectives.features import relative_error
from ddoq.optimisation.fitting import Images, SeededTraining, count_parameters, fit
from ddoq.optimisation.trainers import device_of
from ddoq.priors.training.config import NORM_GROUPS, VAEConfig, check_image_size
from ddoq.seeding import derive_seed
from ddoq.storage.checkpoints import Checkpoint
from ddoq.teachers.teacher import Teacher

# Images a batch where nothing is learnt; it changes no result beyond rounding.
EVALUATION_BATCH = 256


def build_vae(config: VAEConfig, image_size: int) -> AutoencoderKL:
    """Make an untrained autoencoder.

    Args:
        config: Its size.
        image_size: Side of the images in pixels.

    Returns:
        A diffusers model whose latents are ``(latent_channels, image_size / downsampling, ...)``.

    Raises:
        UserError: If images of this size cannot be downsampled so often.
    """
    check_image_size(image_size, config)
    levels = len(config.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=NORM_GROUPS,
        sample_size=image_size,
        scaling_factor=1.0,
        mid_block_add_attention=config.attention,
    )


class VAETraining(SeededTraining):
    r"""Minimise the squared error of the reconstruction plus a small Kullback-Leibler divergence.

    .. math:: \frac{1}{|x|}\|x - \hat x\|^2 + \beta \, \frac{1}{|z|} \mathrm{KL}(q(z|x) \,\|\, \mathcal N(0, I))

    with pixels in [0, 1] and both terms averaged over values, so that :math:`\beta` does not depend on sizes. A third term
    is the error in the features of a classifier (:func:`ddoq.objectives.features.relative_error`), where there is one.

    Args:
        vae: The model.
        config: Steps, learning rate, :math:`\beta` and the weight of features.
        seed: Decides the noise.
        classifier: Whose last layer sees the features; None where their weight is 0.
    """

    def __init__(
        self, vae: AutoencoderKL, config: VAEConfig, seed: int, classifier: Teacher | None = None
    ) -> None:
        super().__init__(seed, "vae", config.learning_rate, config.steps)
        self.vae = vae
        self.kl_weight = config.kl_weight
        self.feature_weight = config.feature_weight
        self.classifier = classifier

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the loss of uint8 images ``(n, 3, h, w)``."""
        images = to_float(batch)
        posterior = self.vae.encode(images * 2 - 1).latent_dist
        latents = posterior.mean + posterior.std * self.normal(posterior.mean.shape)
        decoded = self.vae.decode(latents).sample / 2 + 0.5
        divergence = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss: Tensor = F.mse_loss(decoded, images) + self.kl_weight * divergence
        if self.classifier is not None:
            loss = loss + self.feature_weight * self._feature_error(
                self.classifier, decoded, images
            )
        self.record(loss)
        return loss

    @staticmethod
    def _feature_error(classifier: Teacher, decoded: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = penultimate(classifier.network, classifier.normalize(images))
        features = penultimate(classifier.network, classifier.normalize(decoded))
        return relative_error(features, wanted)


def train_vae(
    config: VAEConfig,
    data: ImageDataModule,
    *,
    seed: int,
    trainer: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    classifier: Teacher | None = None,
) -> tuple[AutoencoderKL, dict[str, Any]]:
    """Train an autoencoder on the training split; the caller's random state stays as it was.

    The scaling factor in its configuration is one over the standard deviation of the encoded training images, as
    latent diffusion (Rombach et al. 2022) does it.

    Args:
        config: Size and training.
        data: The dataset, set up.
        seed: Decides initial weights, order of images and noise.
        trainer: Keyword arguments for ``lightning.Trainer`` that say where to run.
        checkpoint: Where a killed training is found again; None keeps nothing.
        classifier: Whose features shall be reconstructed, too; None where ``config.feature_weight`` is 0.

    Returns:
        The model in evaluation mode, on the CPU, and a record of the training as JSON values.

    Raises:
        UserError: If images of this size do not fit the configuration, or the checkpoint cannot be used.
        DivergedError: If losses, weights, latents or reconstructions are not finite.
    """
    with isolate_rng():
        torch.manual_seed(derive_seed(seed, "vae", "weights"))
        vae = build_vae(config, data.image_size)
        module = VAETraining(vae, config, seed, classifier)
        done = fit(
            module,
            Images(data.train),
            batch_size=config.batch_size,
            workers=data.num_workers,
            trainer=trainer,
            checkpoint=checkpoint,
            what="prior: autoencoder",
            mend=_mend(config),
        )
    if classifier is not None:
        classifier.cpu()
    vae.eval().requires_grad_(False).to(device_of(trainer))
    latents = encode_split(vae, data.train)
    _check_latents(latents, config)
    vae.register_to_config(scaling_factor=1.0 / float(latents.std()))
    error = reconstruction_error(vae, data.whole_test)
    if not math.isfinite(error):
        raise DivergedError(
            f"prior: the autoencoder diverged: its reconstructions are not finite (PSNR {psnr(error)} dB). "
            f"{_mend(config)}"
        )
    return vae.cpu(), {
        "config": asdict(config),
        "seed": seed,
        "seconds": done.seconds,
        "parameters": count_parameters(vae),
        "latent_mean": latents.mean((0, 2, 3)).tolist(),
        "latent_std": latents.std((0, 2, 3)).tolist(),
        "scaling_factor": vae.config.scaling_factor,
        "test_mse": error,
        "test_psnr": psnr(error),
        "losses": done.losses,
    }


def _mend(config: VAEConfig) -> str:
    """Say what to try where the training diverges."""
    return (
        f"Lower prior.init_args.vae.learning_rate (now {config.learning_rate:g}) or "
        f"prior.init_args.vae.kl_weight (now {config.kl_weight:g})."
    )


def _check_latents(latents: Tensor, config: VAEConfig) -> None:
    """Refuse an autoencoder that encodes to NaN, to infinity, or every image to the same."""
    if not is_finite(latents):
        raise DivergedError(
            f"prior: the autoencoder diverged: its latents are not finite (NaN or infinite). {_mend(config)}"
        )
    deviation = float(latents.std())
    if not 0 < deviation < math.inf:
        raise DivergedError(
            "prior: the autoencoder has collapsed: its latents have a standard deviation of "
            f"{deviation:g}, from which no diffusion model can learn. {_mend(config)}"
        )


@torch.no_grad()
def encode_split(vae: AutoencoderKL, split: ImageSplit) -> Tensor:
    """Encode a split to the modes of its posteriors, times the model's scaling factor.

    Args:
        vae: The model, on any device.
        split: Images of the size that it was made for.

    Returns:
        float32 ``(n, channels, h, w)`` on the CPU: 4 bytes a value, e.g. 51 MB for CIFAR-10 at 4 x 8 x 8.
    """
    parts = []
    progress = Progress("prior: encoding", len(split), unit="images")
    for positions in torch.arange(len(split)).split(EVALUATION_BATCH):
        images = to_float(split.load(positions.tolist()).to(vae.device))
        latents = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
        parts.append(latents.float().cpu())
        progress.update(int(positions[-1]) + 1)
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, split: ImageSplit) -> float:
    """Measure the mean squared error of reconstructions, per value of pixels in [0, 1]."""
    total = torch.zeros((), device=vae.device)
    count = 0
    progress = Progress("prior: reconstructing", len(split), unit="images")
    for positions in torch.arange(len(split)).split(EVALUATION_BATCH):
        images = to_float(split.load(positions.tolist()).to(vae.device))
        decoded = reconstruct(vae, images)
        total += F.mse_loss(decoded, images, reduction="sum")
        count += images.numel()
        progress.update(int(positions[-1]) + 1)
    return float(total) / count


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Encode images in [0, 1] to the modes of their posteriors and decode them again."""
    decoded: Tensor = vae.decode(vae.encode(images * 2 - 1).latent_dist.mode()).sample
    return (decoded / 2 + 0.5).clamp(0, 1)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in decibels of pixels in [0, 1].

    Example:
        >>> psnr(0.01)
        20.0
    """
    return -10.0 * float(torch.log10(torch.tensor(mse, dtype=torch.float64).clamp_min(1e-12)))
