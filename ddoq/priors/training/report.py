"""Pictures that show what a trained prior can do."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torchvision.utils import save_image

from ddoq.data.base import ImageDataModule
from ddoq.images import to_float
from ddoq.priors.base import Sampling
from ddoq.priors.diffusion import DiffusionPrior
from ddoq.priors.training.vae import reconstruct
from ddoq.seeding import generator_for

# Rows and columns of a sheet; more classes than this would not fit on a screen.
MAX_CLASSES = 20
COLUMNS = 8


def save_reconstructions(path: Path, vae: AutoencoderKL, data: ImageDataModule) -> None:
    """Draw test images, one row a class, each beside its reconstruction."""
    images = _first_of_each_class(data, COLUMNS // 2, test=True).to(vae.device)
    pairs = torch.stack([images, reconstruct(vae, images)], dim=1).flatten(0, 1)
    save_image(pairs.cpu(), path, nrow=COLUMNS, padding=1)


def save_samples(folder: Path, prior: DiffusionPrior, data: ImageDataModule, *, seed: int) -> None:
    """Draw samples, one row a class.

    ``samples_noise.png`` starts from noise, ``samples_strength.png`` from encoded training images at the default
    strength.

    Args:
        folder: Where the two sheets go.
        prior: What to sample from, on any device.
        data: The dataset that it was trained on, set up.
        seed: Decides the noise.
    """
    rows = min(data.num_classes, MAX_CLASSES)
    class_ids = torch.arange(rows).repeat_interleave(COLUMNS)

    def noise(sheet: str) -> list[torch.Generator]:
        return [generator_for(seed, sheet, index) for index in range(len(class_ids))]

    drawn = prior.sample(class_ids, generators=noise("sheet-noise"), sampling=Sampling())
    save_image(drawn.cpu(), folder / "samples_noise.png", nrow=COLUMNS, padding=1)
    latents = prior.encode(_first_of_each_class(data, COLUMNS, test=False))
    drawn = prior.generate(
        latents, class_ids, generators=noise("sheet-strength"), sampling=Sampling()
    )
    save_image(drawn.cpu(), folder / "samples_strength.png", nrow=COLUMNS, padding=1)


def _first_of_each_class(data: ImageDataModule, count: int, *, test: bool) -> Tensor:
    """Load ``count`` images of each of the first classes, repeating where a class has fewer."""
    split = data.whole_test if test else data.train
    positions = []
    for label in range(min(data.num_classes, MAX_CLASSES)):
        members = split.of_class(label)
        positions.append(members[torch.arange(count) % len(members)])
    return to_float(split.load(torch.cat(positions).tolist()))
