"""Measures how good a prior is to decode with: what its images are to the teacher, at every strength and guidance."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from benchmarks.decoding.options import DecodingOptions
from benchmarks.decoding.record import ImageFigures
from ddoq.console import say
from ddoq.data import ImageDataModule, ImageSplit, TensorSplit
from ddoq.data.splits import SubsetSplit
from ddoq.distillation.shard import Shard
from ddoq.images import to_float
from ddoq.latents.quantization import LatentQuantization
from ddoq.measures import (
    DecodedSetting,
    Gaussian,
    Seen,
    decode_plainly,
    draw_samples,
    fit_gaussian,
    frechet_distance,
    show,
)
from ddoq.priors import Prior, Sampling
from ddoq.priors.training.vae import psnr
from ddoq.seeding import generator_for
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.files import load_tensors, save_tensors
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder
from ddoq.teachers import Teacher

# Raised whenever a change of code changes which images are drawn from noise.
SAMPLE_FORMAT = 1


def draw_real(split: ImageSplit, per_class: int, num_classes: int, seed: int) -> SubsetSplit:
    """Draw real images of every class.

    Args:
        split: Where from.
        per_class: Images a class; all of a class that has fewer.
        num_classes: Classes, from 0.
        seed: Decides which; of a class the first n of a larger draw are a smaller one.

    Returns:
        They, class by class.
    """
    positions = []
    for label in range(num_classes):
        members = split.of_class(label)
        order = torch.randperm(len(members), generator=generator_for(seed, "real", label))
        positions.append(members[order[:per_class]])
    return SubsetSplit(split, torch.cat(positions))


def image_psnr(first: Tensor, second: Tensor) -> float:
    """Compare images pixel by pixel, uint8 of equal shapes; peak signal-to-noise ratio in dB, 120 where they are equal."""
    return psnr(float((to_float(first) - to_float(second)).double().square().mean()))


@dataclass
class DecodingStudy:
    """Measures the images of one prior; what takes long is kept in the output, in shards that a run of the method reuses.

    Attributes:
        data: The dataset, set up.
        method: Whose quantiser, seed and decoding are used; with data and prior attached.
        teacher: Judges.
        options: What is measured.
        trainer: Distils, on one device.
        output: The output folder.
    """

    data: ImageDataModule
    method: LatentQuantization
    teacher: Teacher
    options: DecodingOptions
    trainer: L.Trainer
    output: Path

    @property
    def per_class(self) -> int:
        """Samples from noise and reconstructions per class."""
        return self.options.per_class or self.method.ipc

    @property
    def grid(self) -> list[Sampling]:
        """Every strength with every guidance."""
        return self.options.grid(self.method.sampling)

    @cached_property
    def _test(self) -> Seen:
        return self._seen(self.data.test)

    @cached_property
    def _reference(self) -> Gaussian:
        return fit_gaussian(self._test.features)

    @property
    def _prior(self) -> Prior:
        """The prior on its device: a trainer that has distilled leaves it on the CPU."""
        assert self.method.prior is not None
        return self.method.prior.to(self.trainer.strategy.root_device)

    def real(self, per_class: int) -> ImageSplit:
        """Draw real training images."""
        return draw_real(self.data.train, per_class, self.data.num_classes, self.method.seed)

    def shards(self, sampling: Sampling) -> list[Shard]:
        """Quantise every class and decode the centroids at a setting, or read what is there."""
        variant = self.method.with_arguments(sampling=sampling)
        variant.attach(self.data, prior=self.method.prior)
        variant.tell_reuse = False
        return variant.make_shards(self.trainer, self.output)

    def look(self, shards: list[Shard]) -> Seen:
        """Show the images of shards to the teacher."""
        return self._seen(TensorSplit(*_images_of(shards)))

    def sets(self) -> Iterator[ImageFigures]:
        """Measure the images that depend on no strength, real test images first.

        All distances are to these; those of training images say how far as many real ones that are drawn at random are.
        """
        yield self._figures("real test images", self._test, None)
        for count in sorted({self.method.ipc, self.per_class}):
            seen = self._seen(self.real(count))
            yield self._figures("real training images", seen, self._reference)
        yield self._reconstructed_figures()
        plain = self._seen(self._plain)
        yield self._figures("centroids, decoded without diffusion", plain, self._reference)
        for guidance in self.options.guidances:
            drawn = self._seen(self._samples(guidance))
            name = f"samples from noise, guidance {guidance:g}"
            yield self._figures(name, drawn, self._reference)

    def settings(self) -> Iterator[DecodedSetting]:
        """Measure the centroids, decoded at one setting after the other."""
        grid = self.grid
        for number, sampling in enumerate(grid, 1):
            shards = self.shards(sampling)
            seen = self.look(shards)
            measured = DecodedSetting(
                sampling.strength,
                sampling.guidance_scale,
                len(seen),
                seen.recognised,
                frechet_distance(fit_gaussian(seen.features), self._reference),
                image_psnr(_images_of(shards)[0], self._plain.images),
            )
            say(
                f"decoding: {number} of {len(grid)}: strength {sampling.strength:g}, guidance "
                f"{sampling.guidance_scale:g}: {100 * measured.recognised:.1f} % recognised, Frechet distance "
                f"{measured.frechet:.4g}"
            )
            yield measured

    @cached_property
    def _reconstructed(self) -> tuple[float, TensorSplit]:
        """Encode and decode test images; return the PSNR in dB, too."""
        split = self._drawn_test
        real, decoded = [], []
        for positions in torch.arange(len(split)).split(self.method.batch_size):
            real.append(split.load(positions.tolist()))
            with torch.no_grad():
                latents = self._prior.encode(to_float(real[-1]).to(self._device))
            decoded.append(self._decoded(latents))
        images = torch.cat(decoded)
        return image_psnr(torch.cat(real), images), TensorSplit(images, split.labels)

    def _reconstructed_figures(self) -> ImageFigures:
        """Measure reconstructions; their distance is to the other test images, since to their own they would be too near."""
        seen = self._seen(self._reconstructed[1])
        others = torch.ones(len(self._test), dtype=torch.bool)
        others[self._drawn_test.positions] = False
        rest = self._test.features[others]
        reference = fit_gaussian(rest) if len(rest) > 1 else None
        return self._figures("reconstructed test images", seen, reference)

    @cached_property
    def _drawn_test(self) -> SubsetSplit:
        """Draw the test images that are reconstructed."""
        return draw_real(self.data.test, self.per_class, self.data.num_classes, self.method.seed)

    @property
    def reconstruction(self) -> dict[str, float]:
        """PSNR of reconstructions in dB, and of how many images it is."""
        value, split = self._reconstructed
        return {"reconstruction_psnr": value, "reconstructed": len(split)}

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device

    def _decoded(self, latents: Tensor) -> Tensor:
        method = self.method
        return decode_plainly(
            self._prior,
            latents.to(self._device),
            batch_size=method.batch_size,
            finish=method.finish,
        )

    @cached_property
    def _plain(self) -> TensorSplit:
        """Decode the centroids, which are those of every setting, without diffusion."""
        shards = self.shards(self.grid[0])
        centroids = torch.cat([shard.extras["centroids"] for shard in shards])
        images = self._decoded(centroids.reshape(-1, *self._prior.latent_shape))
        return TensorSplit(images, _images_of(shards)[1])

    def _samples(self, guidance: float) -> TensorSplit:
        """Draw samples from noise, or read what is there."""
        method, prior = self.method, self._prior
        sampling = Sampling(1.0, guidance, method.sampling.num_inference_steps)
        description = {
            "format": SAMPLE_FORMAT,
            "prior": prior.fingerprint,
            "per_class": self.per_class,
            "num_classes": self.data.num_classes,
            "seed": method.seed,
            "sampling": sampling,
            "batch_size": method.batch_size,
            "method": method.shard_settings().get("resize"),
            "image_size": self.data.image_size,
        }
        path = RunFolder(self.output).samples(hash_config(description))
        labels = torch.arange(self.data.num_classes).repeat_interleave(self.per_class)
        images = read_or_set_aside(path, lambda file: _read_images(file, len(labels)))
        if images is None:
            images = draw_samples(
                prior,
                self.per_class,
                self.data.num_classes,
                seed=method.seed,
                sampling=sampling,
                batch_size=method.batch_size,
                finish=method.finish,
            )
            save_tensors(path, {"images": images}, description)
        return TensorSplit(images, labels)

    def _seen(self, split: ImageSplit) -> Seen:
        return show(self.teacher.to(self._device), split)

    def _figures(self, name: str, seen: Seen, reference: Gaussian | None) -> ImageFigures:
        """Fold what the teacher sees in images; without a reference there is no distance."""
        told = f"decoding: {name}: {100 * seen.recognised:.1f} % recognised"
        if reference is None:
            say(told)
            return ImageFigures(name, len(seen), seen.recognised, None)
        distance = frechet_distance(fit_gaussian(seen.features), reference)
        say(f"{told}, Frechet distance {distance:.4g}")
        return ImageFigures(name, len(seen), seen.recognised, distance)


def _images_of(shards: list[Shard]) -> tuple[Tensor, Tensor]:
    """Return images and labels of shards, class by class."""
    labels = [shard.labels for shard in shards if shard.labels is not None]
    return torch.cat([shard.images for shard in shards]), torch.cat(labels)


def _read_images(path: Path, count: int) -> Tensor:
    tensors, _ = load_tensors(path)
    images = tensors.get("images")
    if images is None or images.dtype != torch.uint8 or len(images) != count:
        raise DamagedError(path, f"does not hold {count} images")
    return images
