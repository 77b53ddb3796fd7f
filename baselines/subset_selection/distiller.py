"""A method whose real images are drawn by how much each of them can count: leverage scores, or sensitivities."""

from typing import Literal, get_args

import torch
from torch import Tensor

from baselines.pixels import PixelMethod, check_free, inmost
from baselines.separable import SeparableMatching
from ddoq.bounds import check_number
from ddoq.costs.stages import forward_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.transform import Transform
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.networks import draw_network, penultimate
from ddoq.selection.importance import ImportanceSampler
from ddoq.selection.leverage import leverage_scores
from ddoq.selection.sensitivity import kmeans_sensitivities

Importance = Literal["leverage", "sensitivity"]

_BATCH = 512  # images whose features are computed at once


class SubsetSelection(Wrapper):
    """Lets a method start from, and match its images with, real images that are drawn by importance.

    The importance of an image is measured within its class, on features of a network of random weights: its ridge leverage
    score, or its sensitivity in k-means. Batches are weighted so that the mean over real images that the base descends on
    stays, on average, what it is; so batches need a base of which that mean is known (DM, DC). Starts need one that optimises
    pixels from real images.

    Source: *Towards Provable Subset Selection for Dataset Distillation*, arXiv 2307.08086, from its abstract: a start by a
    coreset instead of a uniform draw, and batches by importance. Which scores, which features and all constants are ours.

    Args:
        base: The method.
        importance: ``leverage`` or ``sensitivity``.
        starts: Whether synthetic images start from images that are drawn by importance.
        batches: Whether the real images of steps are.
        arch: The network of random weights that makes the features.
        ridge: Of leverage scores: the regulariser as a share of the mean eigenvalue.
        clusters: Of sensitivities: k of k-means.
        ipc: Images per class; None leaves the base's.
        seed: Of the base; None leaves it.
    """

    method = "subset"

    def __init__(
        self,
        base: Distiller,
        importance: Importance = "leverage",
        starts: bool = True,
        batches: bool = True,
        arch: str = "convnet3-w32",
        ridge: float = 1.0,
        clusters: int = 10,
        ipc: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(base, ipc, seed)
        self.method = f"subset-{base.method}"
        self.importance: Importance = importance
        self.starts = starts
        self.batches = batches
        self.arch = arch
        self.ridge = ridge
        self.clusters = clusters

    @property
    def chooses(self) -> bool:
        """Whether it chooses the real images of steps, or those that images start from."""
        return self.starts or self.batches

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and bases that draw no real images, or whose batches cannot be weighted."""
        if self.importance not in get_args(Importance):
            raise UserError(
                f"Unknown importance {self.importance!r}. {suggest(self.importance, get_args(Importance))}"
            )
        check_number("ridge", self.ridge, above=0)
        check_number("clusters", self.clusters, at_least=1)
        core = inmost(self.base)
        if not isinstance(core, PixelMethod):
            raise UserError(
                f"SubsetSelection chooses real images for a base that optimises pixels, and {type(core).__name__} does not: take "
                "e.g. DM, or MTT with `batches: false`."
            )
        if self.batches and not isinstance(core, SeparableMatching):
            raise UserError(
                f"`batches` needs a base whose loss is one of a mean over real images, so that a weighted batch keeps it; that of "
                f"{type(core).__name__} is not: set `batches: false`, or take DM or DC."
            )
        check_free(self)
        super().check(data)
        self._network(data.num_classes, data.image_size)

    def hand_on(self) -> None:
        """Give the base its data, and what draws from them."""
        super().hand_on()
        core = inmost(self.base)
        if self.chooses and isinstance(core, PixelMethod):
            core.sampling = self.sampler

    def sampler(self, method: PixelMethod, label: int) -> ImportanceSampler:
        """Make the sampler of a class from the images that the base has of it."""
        return ImportanceSampler(
            self.scores(method.data, label), first=self.starts, batches=self.batches
        )

    def scores(self, data: ImageDataModule, label: int) -> Tensor:
        """Measure the importance of the images of a class, float64 ``(n,)``."""
        features = self._features(data, label)
        if self.importance == "leverage":
            return leverage_scores(features, self.ridge)
        return kmeans_sensitivities(features, self.clusters, seed=self.seed)

    def _network(self, num_classes: int, image_size: int) -> torch.nn.Module:
        return draw_network(self.arch, num_classes, image_size, "subset", "network", seed=self.seed)

    @torch.no_grad()
    def _features(self, data: ImageDataModule, label: int) -> Tensor:
        network = self._network(data.num_classes, data.image_size).to(self.device).eval()
        transform = Transform.normalize(data.mean, data.std).to(self.device)
        parts = []
        for positions in data.train.of_class(label).split(_BATCH):
            images = data.train.load(positions.tolist()).to(self.device)
            parts.append(penultimate(network, transform.apply(to_float(images))))
        return torch.cat(parts)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Send all training images through the network, and then do what the base does."""
        stages = super().workload(sizes, parts)
        if stages is None or not self.chooses:
            return stages
        network = self._network(sizes.num_classes, sizes.image_size)
        images, batch = sizes.train_images, _BATCH
        return [
            forward_stage("measure importance", self.arch, network, sizes, images, batch),
            *stages,
        ]
