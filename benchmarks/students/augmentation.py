"""How a recipe augments a set in one epoch."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.students.recipe import Plan, Recipe
from ddoq.augmentation.epochs import EpochAugmentation, draw_epoch
from ddoq.augmentation.siamese import SiameseParameters, draw_siamese_epoch, parse_strategy
from ddoq.distillation.distilled_set import DistilledSet


@dataclass(frozen=True)
class Draws:
    """The parameters of one epoch, row i for image i of the set.

    Attributes:
        epoch: Crops, flips, colours and partners; nothing happens where ``siamese`` is given.
        siamese: Parameters of Siamese augmentation, which stands alone.
    """

    epoch: EpochAugmentation
    siamese: SiameseParameters | None = None

    @property
    def partners(self) -> Tensor | None:
        """The image that is mixed into each, int64 ``(n,)``; None without CutMix."""
        return self.epoch.partners

    @property
    def lam(self) -> Tensor:
        """Share of each image that keeps its own pixels, float32 ``(n,)``."""
        return self.epoch.lam

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

    Returns:
        The parameters, on the CPU.
    """
    kinds = parse_strategy(recipe.siamese)
    if kinds:
        still = draw_epoch(n, size, seed=seed, epoch=epoch)
        return Draws(still, draw_siamese_epoch(n, size, kinds, seed=seed, epoch=epoch))
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
    )
    return Draws(drawn)


def collage_of(recipe: Recipe, distilled: DistilledSet) -> int:
    """Return the patches along a side of a set's images that the recipe shuffles; 1 where it shuffles none."""
    return int(distilled.metadata.get("collage", 1)) if recipe.patch_shuffle else 1
