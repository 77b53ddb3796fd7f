"""How a recipe augments a set in one epoch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.students.batches import batch_sizes, epoch_order
from benchmarks.students.plan import Plan
from benchmarks.students.recipe import Recipe
from ddoq.augmentation.epochs import EpochAugmentation, draw_epoch
from ddoq.augmentation.siamese import SiameseParameters, draw_siamese_epoch, parse_strategy
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.seeding import generator_for


@dataclass(frozen=True)
class Draws:
    """The parameters of one epoch, row i for image i of the set, or for its i-th draw.

    Attributes:
        epoch: Crops, flips, colours and partners; nothing happens where ``siamese`` is given.
        siamese: Parameters of Siamese augmentation, which stands alone.
    """

    epoch: EpochAugmentation
    siamese: SiameseParameters | None = None

    @property
    def partners(self) -> Tensor | None:
        """The image that is mixed into each, int64 ``(n,)``; None without CutMix and MixUp."""
        return self.epoch.partners

    @property
    def lam(self) -> Tensor:
        """Share of each image in its mixture, float32 ``(n,)``."""
        return self.epoch.lam

    def images_of(self, rows: Tensor) -> Tensor:
        """Return the images that rows are for, int64 as they are."""
        return self.epoch.images_of(rows)

    def to(self, device: torch.device | str) -> "Draws":
        """Copy to a device."""
        siamese = None if self.siamese is None else self.siamese.to(device)
        return replace(self, epoch=self.epoch.to(device), siamese=siamese)


def draw_recipe_epoch(
    recipe: Recipe,
    plan: Plan,
    n: int,
    size: tuple[int, int],
    *,
    collage: int,
    seed: int,
    epoch: int,
    weights: Tensor | None = None,
) -> Draws:
    """Draw how a recipe augments a set in one epoch.

    Args:
        recipe: How students are trained.
        plan: What it comes to for this set.
        n: Images.
        size: Their height and width.
        collage: See :func:`collage_of`.
        seed: Of the draws: a student's own, or the recipe's ``label_seed``.
        epoch: Counts from 0.
        weights: Of the images, ``(n,)``, not negative; needed where the recipe draws images by them.

    Returns:
        The parameters, on the CPU.
    """
    shown = None
    if recipe.weights == "sampling" and weights is not None:
        shown = draw_images(weights, seed=seed, epoch=epoch)
    kinds = parse_strategy(recipe.siamese)
    if kinds:
        still = replace(draw_epoch(n, size, seed=seed, epoch=epoch), shown=shown)
        return Draws(still, draw_siamese_epoch(n, size, kinds, seed=seed, epoch=epoch))
    batches = None
    if recipe.mixes_by_batch:
        batches = epoch_order(n, seed, epoch).split(batch_sizes(n, plan.batch_size))
    drawn = draw_epoch(
        n,
        size,
        seed=seed,
        epoch=epoch,
        crop_scale=plan.crop_scale,
        crop_ratio=recipe.crop_ratio,
        flip=recipe.flip,
        cutmix_alpha=recipe.cutmix_alpha,
        collage=collage,
        color_jitter=recipe.color_jitter,
        pca_lighting=recipe.pca_lighting,
        jitter_clamp=recipe.jitter_clamp,
        batches=batches,
        pad_crop=recipe.pad_crop,
        mixup_alpha=recipe.mixup_alpha,
    )
    return Draws(replace(drawn, shown=shown))


def draw_images(weights: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Draw as many images as there are, with repetition and in proportion to their weights.

    Args:
        weights: ``(n,)``, not negative, some above 0.
        seed: The seed of the student.
        epoch: Counts from 0.

    Returns:
        int64 ``(n,)``: the image of every draw.

    Example:
        >>> draw_images(torch.tensor([0.0, 2.0, 0.0]), seed=0, epoch=0).tolist()
        [1, 1, 1]
    """
    ends = weights.cpu().double().cumsum(0)
    generator = generator_for(seed, "sampling", epoch)
    at = ends[-1] * torch.rand(len(ends), generator=generator, dtype=torch.float64)
    return torch.searchsorted(ends, at, right=True).clamp(max=len(ends) - 1)


def collage_of(recipe: Recipe, distilled: DistilledSet) -> int:
    """Return the patches along a side of a set's images that the recipe shuffles; 1 where it shuffles none."""
    return int(distilled.metadata.get("collage", 1)) if recipe.patch_shuffle else 1
