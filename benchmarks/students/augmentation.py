"""How a recipe augments a set in one epoch."""

from torch import Tensor

from benchmarks.students.recipes import Plan, Recipe
from ddoq.augmentation.epochs import EpochAugmentation, draw_epoch
from ddoq.distillation.distilled_set import DistilledSet


def draw_recipe_epoch(
    recipe: Recipe, plan: Plan, images: Tensor, *, collage: int, seed: int, epoch: int
) -> EpochAugmentation:
    """Draw how a recipe augments a set in one epoch.

    Args:
        recipe: How students are trained.
        plan: What it comes to for this set.
        images: ``(n, 3, h, w)``; only the shape counts.
        collage: See :func:`collage_of`.
        seed: Of the draws: a student's own, or the recipe's ``label_seed``.
        epoch: Counts from 0.

    Returns:
        The parameters, on the CPU.
    """
    n, _, height, width = images.shape
    return draw_epoch(
        n,
        (height, width),
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


def collage_of(recipe: Recipe, distilled: DistilledSet) -> int:
    """Return the patches along a side of a set's images that the recipe shuffles; 1 where it shuffles none."""
    return int(distilled.metadata.get("collage", 1)) if recipe.patch_shuffle else 1
