"""A method that sees the images of each class that are easily learnt, and of these the ones that matter to a step."""

from dataclasses import replace

import torch

from baselines.bilp.dynamic import DynamicPruning
from baselines.bilp.ranking import LossRanking
from baselines.pixels import PixelMethod, check_free, inmost
from baselines.separable import SeparableMatching
from ddoq.bounds import check_number
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.data.splits import SubsetSplit
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.ingredient import Ingredient
from ddoq.distillation.tables import ByBudget, look_up
from ddoq.distillation.wrapper import Wrapper
from ddoq.errors import UserError
from ddoq.selection.loss_pruning import Rank, kept_of, prune_by_loss, rank_losses

KEEP = {1: 0.3, 50: 0.8}  # by images per class; ours


class BiLP(Wrapper):
    """Prunes the real images that a method works on, before it begins and in every step of it.

    The static stage trains a network for a few epochs, ranks the images of each class by their loss and keeps the easiest
    ones; the base sees no others. The dynamic stage, for a base whose loss takes a mean over real images, leaves out of
    its steps those that change them least or most. With ``keep: 1`` and without ``dynamic`` the set is the base's, bit for
    bit.

    Source: Y. Xu, Y.-L. Li, K. Cui, Z. Wang, C. Lu, Y.-W. Tai and C.-K. Tang, *Distill Gold from Massive Ores: Bi-level Data
    Pruning towards Efficient Dataset Distillation*, ECCV 2024; silicx/GoldFromOres at 0b5f6ff, which holds the static stage
    alone.

    Args:
        base: The method.
        ranking: The trainings that losses come from.
        keep: Share of each class that the base sees; or a table by images per class.
        rank: By which losses: ``initial``, ``converged`` or ``mean``, see :func:`rank_losses`.
        dynamic: How images are left out of steps; None leaves none out.
        ipc: Images per class; None leaves the base's.
        seed: Of the base; None leaves it.
    """

    method = "bilp"

    def __init__(
        self,
        base: Distiller,
        ranking: LossRanking,
        keep: ByBudget[float] = KEEP,
        rank: Rank = "converged",
        dynamic: DynamicPruning | None = None,
        ipc: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(base, ipc, seed)
        self.method = f"bilp-{base.method}"
        self.ranking = ranking
        self.keep = keep
        self.rank: Rank = rank
        self.dynamic = dynamic

    def _share(self, num_classes: int) -> float:
        return look_up(self.keep, num_classes, self.ipc, "keep")

    @property
    def chooses(self) -> bool:
        """Whether it chooses the real images of steps."""
        return self.dynamic is not None

    def own_ingredients(self) -> dict[str, Ingredient]:
        """Need no ranking where all images are kept."""
        return {} if self.keep == 1 else super().own_ingredients()

    def check(self, data: ImageDataModule) -> None:
        """Refuse shares that leave a class too few images, and bases that no pruning reaches."""
        share = self._share(data.num_classes)
        check_number("keep", share, above=0, at_most=1)
        rank_losses(torch.zeros(1, 1, 1), self.rank)
        core = inmost(self.base)
        if not core.reads_images:
            raise UserError(
                f"BiLP prunes the training images, but {type(core).__name__} does not read them: give it another base, e.g. DM."
            )
        if self.dynamic is not None:
            self._check_dynamic(core)
        self._check_classes(data, share)
        super().check(data)

    def _check_dynamic(self, core: Distiller) -> None:
        if not isinstance(core, SeparableMatching):
            raise UserError(
                f"`dynamic` needs a base whose loss is one of a mean over real images, so that the share of each is known; "
                f"that of {type(core).__name__} is not: leave `dynamic` out, or take DM or DC."
            )
        check_free(self)

    def _check_classes(self, data: ImageDataModule, share: float) -> None:
        """Refuse a share that does not fill the budget of each class."""
        sizes = torch.bincount(data.train.labels, minlength=data.num_classes)
        smallest = int(sizes.argmin())
        size = int(sizes[smallest])
        left, needed = kept_of(size, share), self.ipc if "ipc" in inmost(self.base).arguments else 1
        if left < max(needed, 1):
            raise UserError(
                f"keep: {share:g} leaves {left} of the {size} images of class '{data.classes[smallest].name}' of {data.name}, "
                f"but {needed} are needed: raise model.init_args.keep, or lower ipc."
            )

    def base_data(self) -> ImageDataModule:
        """Return the dataset without the images of high loss."""
        share = self._share(self.data.num_classes)
        if share == 1:
            return self.data
        scores = rank_losses(self.ranking.losses, self.rank)
        kept = prune_by_loss(scores, self.data.train.labels, share)
        return self.data.with_train(SubsetSplit(self.data.train, kept))

    def hand_on(self) -> None:
        """Give the base its data, and what draws from them."""
        super().hand_on()
        core = inmost(self.base)
        if self.dynamic is not None and isinstance(core, PixelMethod):
            core.sampling = self.dynamic.sampler

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Say what the base takes on what is left; the ranking says for itself."""
        share = self._share(sizes.num_classes)
        left = replace(
            sizes,
            train_images=kept_of(sizes.train_images, share),
            largest_class=kept_of(sizes.largest_class, share),
        )
        return super().workload(left, parts)
