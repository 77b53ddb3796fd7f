"""Crops of real images in which a diffusion model sees their class, one of every cluster."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from baselines.patch_scores import DiffusionScore, PatchScore, TeacherScore, passes
from baselines.patches import PatchMethod
from ddoq.bounds import check_number
from ddoq.costs.prior_networks import PriorNetworks
from ddoq.costs.stages import forward_stage, prior_stage
from ddoq.costs.workload import Parts, Sizes, Stage, assignment_flops
from ddoq.data import ImageDataModule
from ddoq.errors import UserError, suggest
from ddoq.latents.cache import encoded_at
from ddoq.latents.quantization import Quantizer
from ddoq.quantization import quantize
from ddoq.quantization.assignment import nearest
from ddoq.seeding import derive_seed
from ddoq.selection.patches import rank_in_clusters

_SCORES = ("diffusion", "teacher")
_FEATURES = ("latent", "pixel")


class PatchSelection(PatchMethod):
    """Keep of each class the crops that a diffusion model's knowledge of the class explains best, the best of every cluster.

    One pass, nothing is optimised. Known from its abstract alone: two scores of a real image by the noise that a diffusion
    model predicts with and without the class, crops where they differ most, clusters of these in each class, ranks inside
    the clusters. All constants are ours or RDED's.

    Args:
        ipc: Stored images per class.
        seed: Decides pools, crops, noise and clusters.
        score: ``diffusion``: how much the class helps the prior to see the noise; ``teacher``: a teacher's cross-entropy,
            RDED's score.
        levels: Noise levels of ``diffusion``, as shares of the noise schedule in (0, 1].
        draws: Noises of an image at each level.
        clusters: Clusters of a class; None takes as many as patches are kept.
        features: What is clustered: ``latent``, the patches as the prior encodes them, or ``pixel``.
        pool: Training images of each class that crops are proposed of; all where a class has fewer.
        crops: Crops of each image.
        crop_scale: Least and greatest share of an image's area that a crop has. Means over few locations vary most, so that
            small crops would nearly always be the best.
        factor: Patches along a side of a stored image; None takes 2 from 128 pixels on and 1 below.
        source_size: Side of the images that are cropped, decoded anew where their source is larger; None takes twice the
            dataset's from 128 pixels on and the dataset's below. The prior sees them at its own.
        batch_size: Inputs a batch for prior and teacher.
    """

    method = "patch-selection"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        score: Literal["diffusion", "teacher"] = "diffusion",
        levels: tuple[float, ...] = (0.3, 0.5, 0.7),
        draws: int = 1,
        clusters: int | None = None,
        features: Literal["latent", "pixel"] = "latent",
        pool: int = 300,
        crops: int = 5,
        crop_scale: tuple[float, float] = (0.5, 1.0),
        factor: int | None = None,
        source_size: int | None = None,
        batch_size: int = 64,
    ) -> None:
        super().__init__(ipc, seed, pool, crops, crop_scale, factor, source_size, batch_size)
        self.score = score
        self.levels = levels
        self.draws = draws
        self.clusters = clusters
        self.features = features

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for one noise at one level, too."""
        return {**super().tiny(given), "levels": [0.5], "draws": 1, "clusters": None}

    @property
    def needs_prior(self) -> bool:
        """It scores crops, or encodes them for clusters."""
        return self.score == "diffusion" or self.features == "latent"

    @property
    def needs_teacher(self) -> bool:
        """It scores crops, if asked to."""
        return self.score == "teacher"

    def check(self, data: ImageDataModule) -> None:
        """Refuse unknown scores and features, levels outside of the schedule, and more clusters than patches."""
        super().check(data)
        for name, value, known in (
            ("score", self.score, _SCORES),
            ("features", self.features, _FEATURES),
        ):
            if value not in known:
                raise UserError(f"Unknown {name} {value!r}. {suggest(value, known)}")
        if not self.levels:
            raise UserError("levels must list at least one noise level, e.g. [0.5].")
        for level in self.levels:
            check_number("levels", level, above=0, at_most=1)
        check_number("draws", self.draws, at_least=1)
        if self.clusters is not None:
            smallest = int(data.train.labels.bincount(minlength=data.num_classes).min())
            check_number("clusters", self.clusters, at_least=1, at_most=min(self.pool, smallest))

    def patch_score(self, label: int) -> PatchScore:
        """Return the score that was asked for."""
        if self.score == "teacher":
            assert self.teacher is not None
            return TeacherScore(self.teacher, self.device, self.batch_size)
        assert self.prior is not None
        return DiffusionScore(
            self.prior,
            self.device,
            seed=self.seed,
            levels=self.levels,
            draws=self.draws,
            batch_size=self.batch_size,
            what=f"{self.method}, class {label}",
        )

    def choose(self, patches: Tensor, scores: Tensor, count: int, label: int) -> Tensor:
        """Cluster the patches, and choose the best of every cluster, then the second best, until there are enough."""
        clusters = count if self.clusters is None else self.clusters
        if clusters == 1:
            return rank_in_clusters(scores, torch.zeros(len(scores)), count)
        points = self._points(patches)
        seed = derive_seed(self.seed, "clusters", label)
        codebook = quantize(points, clusters, method="lloyd", seed=seed)
        return rank_in_clusters(scores, nearest(points, codebook.centroids).cpu(), count)

    def _points(self, patches: Tensor) -> Tensor:
        """Return what is clustered, float32 ``(n, d)``, on the device."""
        if self.features == "pixel":
            return patches.to(self.device).flatten(1)
        assert self.prior is not None
        parts = [self.prior.encode(part.to(self.device)) for part in patches.split(self.batch_size)]
        return torch.cat(parts).flatten(1)

    def facts(self) -> dict[str, Any]:
        """Say at which size the prior saw images, where it scored them."""
        seen = {}
        if self.prior is not None and self.score == "diffusion":
            seen = encoded_at(self.prior, self.data)
        return {**super().facts(), **seen}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Encode the pools, predict their noise with and without the class, encode the best crops and cluster them."""
        images = self.pooled(sizes)
        prior, stages = parts.prior, []
        if (self.needs_prior and prior is None) or (self.needs_teacher and parts.teacher is None):
            return None
        if self.score == "teacher":
            assert parts.teacher is not None
            shown = images * self.crops
            stages = [
                forward_stage("score", "teacher", parts.teacher, sizes, shown, self.batch_size)
            ]
        elif prior is not None:
            stages = self._diffusion_stages(prior, sizes, images)
        values = 3 * (sizes.image_size // self.factor_at(sizes.image_size)) ** 2
        if self.features == "latent" and prior is not None:
            values = math.prod(prior.latent_shape)
            encode = PriorNetworks.encode
            stages.append(
                prior_stage("features", "VAE encoder", prior, encode, images, self.batch_size)
            )
        kept = self.ipc * self.factor_at(sizes.image_size) ** 2
        clusters = kept if self.clusters is None else self.clusters
        flops = assignment_flops(images, clusters, values, vars(Quantizer()))
        note = f"k-means of {values:,} dimensions"
        files = self.stored(sizes)
        return [*stages, Stage("cluster", "", 0, flops, files, at_most=True, note=note)]

    def _diffusion_stages(self, prior: PriorNetworks, sizes: Sizes, images: int) -> list[Stage]:
        """Count the networks of the score."""
        batch = self.batch_size
        encode, denoise = PriorNetworks.encode, PriorNetworks.denoise
        prompts = []
        if prior.text_encoder is not None:
            texts, run = sizes.num_classes + 1, PriorNetworks.encode_prompts
            prompts = [prior_stage("prompts", "text encoder", prior, run, texts, 1)]
        count = passes(self.levels, self.draws)
        note = f"{count} passes an image"
        return [
            prior_stage("encode", "VAE encoder", prior, encode, images, batch),
            *prompts,
            prior_stage(
                "score", "denoising network", prior, denoise, images * count, batch, note=note
            ),
        ]
