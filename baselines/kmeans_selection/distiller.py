"""Real images that stand for the k-means clusters of their class."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from baselines.selection import keep
from ddoq.costs.stages import encoding_stages
from ddoq.costs.workload import Parts, Sizes, Stage, assignment_flops, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard, WorkItem, check_budget, class_items
from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.latents.distiller import LatentDistiller
from ddoq.latents.quantization import Quantizer
from ddoq.quantization import cell_weights
from ddoq.seeding import derive_seed, generator_for

_FEATURES = ("latent", "pixel")
_WEIGHTS = ("weighted", "weight_power", "shuffle_weights")  # what decides weights alone


class KMeansSelection(LatentDistiller):
    """Quantise each class and keep, for every centroid, the training image nearest to it.

    With ``features: latent``, the same prior, seed, ``restarts`` and ``backend``, the centroids are those of DDOQ with
    ``quantizer.method: lloyd``: the two methods differ in what they make of a centroid. ``weighted`` adds DDOQ's
    other half, the masses of the cells.

    Source: k-means selection is the coreset row of J. Cui et al., *DC-BENCH: Dataset Condensation Benchmark*,
    NeurIPS 2022.

    Args:
        ipc: Images per class.
        seed: Decides the seeding of k-means.
        features: ``latent`` clusters the prior's latents (the posterior's mode), ``pixel`` the images in [0, 1].
        restarts: Independent runs of k-means, of which the one of least distortion is kept.
        backend: ``torch`` or ``faiss``.
        batch_size: Images a batch for encoding.
        weighted: Weigh each chosen image by the share of the class that is nearest to it; otherwise all
            weights are 1.
        weight_power: With ``weighted``, the exponent of the masses, in [0, 1].
        latent_cache: Keep latents in the output folder, where other methods find them; at the same batch size it
            changes no bit.
        shuffle_weights: With ``weighted``, give the weights of a class to its images in a random order: as uneven as
            before, without their meaning. A control, no method.
    """

    method = "kmeans-selection"
    added: ClassVar = {"shuffle_weights": False}

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        features: Literal["latent", "pixel"] = "latent",
        restarts: int = 1,
        backend: Literal["torch", "faiss"] = "torch",
        batch_size: int = 64,
        weighted: bool = False,
        weight_power: float = 1.0,
        latent_cache: bool = True,
        shuffle_weights: bool = False,
    ) -> None:
        super().__init__(ipc, seed)
        self.features = features
        self.restarts = restarts
        self.backend = backend
        self.batch_size = batch_size
        self.weighted = weighted
        self.weight_power = weight_power
        self.latent_cache = latent_cache
        self.shuffle_weights = shuffle_weights

    @property
    def needs_prior(self) -> bool:
        """Latents come from a prior, pixels do not."""
        return self.features == "latent"

    def check(self, data: ImageDataModule) -> None:
        """Refuse unknown features, exponents outside [0, 1], weights to shuffle without any, and too large budgets."""
        super().check(data)
        if self.features not in _FEATURES:
            raise UserError(
                f"Unknown features {self.features!r}. {suggest(self.features, _FEATURES)}"
            )
        for name, value in (("restarts", self.restarts), ("batch_size", self.batch_size)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}.")
        if not 0 <= self.weight_power <= 1:
            raise UserError(f"weight_power must be in [0, 1], not {self.weight_power}.")
        if self.shuffle_weights and not self.weighted:
            raise UserError("shuffle_weights needs weighted: true: without it all weights are 1.")
        check_budget(data, self.ipc)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def shard_settings(self) -> dict[str, Any]:
        """Leave out weights, so that weighted and unweighted rows share one selection."""
        settings = super().shard_settings()
        return {k: v for k, v in settings.items() if k not in _WEIGHTS}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Encode every image, where features are latents, and cluster every class."""
        stages: list[Stage] = []
        values = 3 * sizes.image_size**2
        if self.needs_prior:
            if parts.prior is None:
                return None
            stages = encoding_stages(sizes, parts.prior, self.batch_size, keep=self.latent_cache)
            values = math.prod(parts.prior.latent_shape)
        quantizer = {"method": "medoid", "passes": 1, "restarts": self.restarts}
        clustering = Stage(
            "select",
            "",
            0,
            assignment_flops(sizes.train_images, self.ipc, values, quantizer),
            {"images": image_bytes(sizes, self.ipc)},
            memory=2 * 4 * sizes.largest_class * values,
            at_most=True,
            note=f"k-means of {values:,} dimensions",
        )
        return [*stages, clustering]

    @torch.no_grad()
    def distill(self, item: WorkItem) -> Shard:
        """Cluster one class and keep the images nearest to its centroids."""
        (label,) = item.classes
        points, encoding = self._points(label)
        quantizer = Quantizer(method="medoid", restarts=self.restarts, backend=self.backend)
        codebook = quantizer.fit(points, self.ipc, derive_seed(self.seed, "quantize", label))
        assert codebook.indices is not None
        indices = self.data.train.of_class(label)[codebook.indices.cpu()]
        info = {"points": len(points), "distortion": codebook.distortion, **encoding}
        return keep(self.data, label, indices, {"counts": codebook.counts.cpu()}, info)

    def _points(self, label: int) -> tuple[Tensor, dict[str, Any]]:
        """Return the features of a class's training images, float32 ``(n, d)``, on the device; and facts for the record."""
        if self.features == "pixel":
            images = self.data.train.load(self.data.train.of_class(label).tolist())
            return to_float(images.to(self.device)).flatten(1), {}
        return self.class_points(label)

    def weigh(self, shard: Shard) -> Tensor:
        """Weigh images by the masses of their cells, if asked to."""
        if not self.weighted:
            return super().weigh(shard)
        weights = cell_weights(shard.extras["counts"], self.weight_power)
        if not self.shuffle_weights:
            return weights
        assert shard.labels is not None
        generator = generator_for(self.seed, "shuffle", int(shard.labels[0]))
        return weights[torch.randperm(len(weights), generator=generator)]

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average the distortion over classes."""
        return {"distortion": math.fsum(info["distortion"] for info in infos) / len(infos)}
