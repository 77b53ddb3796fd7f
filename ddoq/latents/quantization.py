"""Distillation by quantising each class in a prior's latent space: what DDOQ and D4M share."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ddoq.bounds import check_number
from ddoq.console import Progress
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.stages import encoding_stages, prior_stage
from ddoq.costs.workload import Parts, Sizes, Stage, assignment_flops, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.errors import UserError, suggest
from ddoq.images import to_uint8
from ddoq.latents.cache import Posterior
from ddoq.latents.distiller import LatentDistiller
from ddoq.priors.base import Sampling
from ddoq.quantization import METHODS, Codebook, quantize, wasserstein2
from ddoq.quantization.quantize import check_online
from ddoq.seeding import derive_seed, generator_for


@dataclass(frozen=True)
class Quantizer:
    """How a class is quantised; see :func:`ddoq.quantization.quantize`.

    Attributes:
        method: ``lloyd``, ``clvq``, ``d4m``, ``random`` or ``medoid``.
        restarts: Independent starts, of which the one of least distortion is kept.
        backend: ``torch`` or ``faiss``, for ``lloyd``.
        passes: Passes over the data, for ``clvq``.
        batch_size: Points a mini-batch, for ``clvq``; None is the method's own default.
        km_expand: Chunk size in multiples of k, for ``d4m`` (D4M's ImageNet script: 1); 1 for all others.
    """

    method: str = "lloyd"
    restarts: int = 1
    backend: str = "torch"
    passes: int = 1
    batch_size: int | None = None
    km_expand: int = 1

    def __post_init__(self) -> None:
        """Refuse an unknown method, counts below 1, and settings that another method would have heeded."""
        if self.method not in METHODS:
            raise UserError(
                f"Unknown quantizer.method {self.method!r}. {suggest(self.method, METHODS)}"
            )
        for name in ("restarts", "passes", "km_expand", "batch_size"):
            if (value := getattr(self, name)) is not None:
                check_number(f"quantizer.{name}", value, at_least=1)
        check_online(self.method, self.passes, self.batch_size)
        if self.method != "d4m":  # nobody reads it then, so that it must not tell keys apart
            object.__setattr__(self, "km_expand", 1)

    def fit(self, points: Tensor, k: int, seed: int) -> Codebook:
        """Quantise float points ``(n, d)`` to ``k`` centroids."""
        arguments = asdict(self)
        km_expand = arguments.pop("km_expand")
        chunk = km_expand * k if self.method == "d4m" else None
        return quantize(points, k, seed=seed, chunk=chunk, **arguments)


class LatentQuantization(LatentDistiller):
    """Encode a class, quantise it, and let the diffusion model decode the centroids.

    Args:
        ipc: Images per class: the number of centroids.
        seed: Decides seeding of the quantiser and the noise of every image.
        quantizer: How the latents are quantised.
        sampling: How the diffusion model decodes.
        batch_size: Images a batch for encoding and for generation.
        posterior: ``mode`` encodes to the mode of the posterior, ``sample`` draws from it, as D4M's code does.
        latent_cache: Keep the latents in the output folder, for every run that starts from the same ones; otherwise
            each run encodes anew. At the same ``batch_size`` the images are the same, bit for bit; latents that were
            encoded in other batches can differ in the last digit of fp16.
    """

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        quantizer: Quantizer = Quantizer(),
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        batch_size: int = 64,
        posterior: Posterior = "mode",
        latent_cache: bool = True,
    ) -> None:
        super().__init__(ipc, seed)
        self.quantizer = quantizer
        self.sampling = sampling
        self.batch_size = batch_size
        self.posterior = posterior
        self.latent_cache = latent_cache

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Sample in a few steps, too."""
        sampling = {**(given.get("sampling") or {}), "num_inference_steps": 4}
        return {**super().tiny(given), "sampling": sampling}

    @property
    def needs_prior(self) -> bool:
        """A prior encodes and decodes."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse empty batches, and more centroids than the smallest class has images."""
        super().check(data)
        check_number("batch_size", self.batch_size, at_least=1)
        check_budget(data, self.ipc)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    @abstractmethod
    def weigh(self, shard: Shard) -> Tensor:
        """Weigh the images of a class: all in which the methods of this family differ."""

    def shard_settings(self) -> dict[str, Any]:
        """Leave out method and weights: one synthesis serves every method that differs only in these."""
        settings = self.settings()
        shared = ("ipc", "seed", "quantizer", "sampling", "batch_size", "posterior")
        return {"method": "latent-quantization", **{name: settings[name] for name in shared}}

    def distill(self, item: WorkItem) -> Shard:
        """Quantise one class and decode its centroids."""
        assert self.prior is not None
        (label,) = item.classes
        points, encoding = self.class_points(label)
        codebook = self.quantizer.fit(points, self.ipc, derive_seed(self.seed, "quantize", label))
        images = self.decode(codebook.centroids.reshape(-1, *self.prior.latent_shape), label)
        extras = {"centroids": codebook.centroids.cpu(), "counts": codebook.counts.cpu()}
        if codebook.online_counts is not None:
            extras["online_counts"] = codebook.online_counts.cpu()
        info = {
            "points": len(points),
            "distortion": codebook.distortion,
            "w2_masses": wasserstein2(points, codebook),
            "w2_uniform": wasserstein2(points, codebook, torch.ones(self.ipc)),
            **encoding,
        }
        return Shard(images, torch.full((self.ipc,), label), extras, info)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Encode every image, quantise every class, denoise and decode every centroid."""
        prior = parts.prior
        if prior is None:
            return None
        images = sizes.num_classes * self.ipc
        points = sizes.train_images
        values = math.prod(prior.latent_shape)
        passes = self.sampling.passes(prior.scheduler)
        copies = 2 if self.sampling.guidance_scale > 1 else 1
        prompts = []
        if prior.text_encoder is not None:
            prompts = [
                prior_stage(
                    "prompts",
                    "text encoder",
                    prior,
                    PriorNetworks.encode_prompts,
                    sizes.num_classes + 1,
                    1,
                )
            ]
        clustering = Stage(
            "quantise",
            "",
            0,
            assignment_flops(points, self.ipc, values, asdict(self.quantizer)),
            memory=2 * 4 * sizes.largest_class * values,
            at_most=self.quantizer.method in ("lloyd", "medoid"),
            note=f"{self.quantizer.method} of {values:,} dimensions; memory: a class's points and a working copy",
        )
        return [
            *encoding_stages(sizes, prior, self.batch_size, keep=self.latent_cache),
            clustering,
            *prompts,
            prior_stage(
                "generate",
                "denoising network",
                prior,
                PriorNetworks.denoise,
                images * passes,
                min(self.batch_size, self.ipc) * copies,
                note=f"{passes} passes an image",
            ),
            prior_stage(
                "decode",
                "VAE decoder",
                prior,
                PriorNetworks.decode,
                images,
                min(self.batch_size, self.ipc),
                files={"images": image_bytes(sizes, self.ipc)},
            ),
        ]

    @torch.no_grad()
    def decode(self, centroids: Tensor, label: int) -> Tensor:
        """Send centroids ``(k, *latent_shape)`` of a class through the diffusion model; uint8 images."""
        assert self.prior is not None
        parts = []
        progress = Progress(f"{self.method}, class {label}", len(centroids), unit="images")
        for start in range(0, len(centroids), self.batch_size):
            part = centroids[start : start + self.batch_size].to(self.device)
            numbers = range(start, start + len(part))
            images = self.prior.generate(
                part,
                torch.full((len(part),), label, device=self.device),
                generators=[generator_for(self.seed, "noise", label, k) for k in numbers],
                sampling=self.sampling,
            )
            parts.append(self.finish(images).cpu())
            progress.update(start + len(part))
        return torch.cat(parts)

    def finish(self, images: Tensor) -> Tensor:
        """Bring decoded images, float in [0, 1], to what is stored: uint8 of the dataset's size."""
        if images.shape[-1] != self.data.image_size:
            images = self.resize(images)
        return to_uint8(images)

    def resize(self, images: Tensor) -> Tensor:
        """Bring decoded images, float in [0, 1], from the prior's size to the dataset's."""
        resized: Tensor = tv.resize(images, [self.data.image_size] * 2, antialias=True)
        return resized

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average distortion and both Wasserstein distances over classes."""
        means = {
            name: math.fsum(info[name] for info in infos) / len(infos)
            for name in ("distortion", "w2_masses", "w2_uniform")
        }
        return {**means, "w2_reduction": 1 - means["w2_masses"] / max(means["w2_uniform"], 1e-12)}
