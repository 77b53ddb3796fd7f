"""What methods share that keep the best crops of real images, several of them in each stored image where these are large."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from baselines.grids import check_grid, tiny_grid
from baselines.patch_scores import PatchScore, Proposals
from ddoq.bounds import check_number
from ddoq.costs.workload import Sizes, image_bytes
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, class_items, smallest_class
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError, is_finite
from ddoq.images import to_uint8
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for
from ddoq.selection.patches import best_boxes, cut_patches, propose_boxes, stitch
from ddoq.smoke import accepted, lower
from ddoq.teachers import Teacher

# RDED's scripts: one patch fills an image of CIFAR and of Tiny-ImageNet, four an image of 128 or 224 pixels.
LARGE, LARGE_FACTOR = 128, 2


def default_factor(image_size: int) -> int:
    """Return how many patches RDED puts along a side of an image.

    Example:
        >>> default_factor(64), default_factor(224)
        (1, 2)
    """
    return LARGE_FACTOR if image_size >= LARGE else 1


def default_source(image_size: int) -> int:
    """Return the side of the images that crops are cut out of, where their source is as large.

    RDED crops photographs as they are, whose shorter sides are some 375 pixels on ImageNet. Twice the stored side comes near
    that, so that a crop is hardly ever enlarged from a small copy; images below 128 pixels are sources themselves.

    Example:
        >>> default_source(32), default_source(224)
        (32, 448)
    """
    return 2 * image_size if image_size >= LARGE else image_size


class PatchMethod(Distiller):
    """Draws a pool of images of each class, proposes crops, keeps the best of each image, and stitches the chosen ones.

    A subclass says how crops are scored and which patches of a class are kept.

    Args:
        ipc: Stored images per class.
        seed: Decides pools and crops.
        pool: Training images of each class that crops are proposed of; all where a class has fewer.
        crops: Crops of each image.
        crop_scale: Least and greatest share of an image's area that a crop has.
        factor: Patches along a side of a stored image; None takes :func:`default_factor`.
        source_size: Side of the images that are cropped, decoded anew where their source is larger; None takes
            :func:`default_source`.
        batch_size: Inputs that a network sees together.
    """

    def __init__(
        self,
        ipc: int,
        seed: int,
        pool: int,
        crops: int,
        crop_scale: tuple[float, float],
        factor: int | None,
        source_size: int | None,
        batch_size: int,
    ) -> None:
        super().__init__(ipc, seed)
        self.pool = pool
        self.crops = crops
        self.crop_scale = crop_scale
        self.factor = factor
        self.source_size = source_size
        self.batch_size = batch_size

    @abstractmethod
    def patch_score(self, label: int) -> PatchScore:
        """Return what scores the crops of a class."""

    @abstractmethod
    def choose(self, patches: Tensor, scores: Tensor, count: int, label: int) -> Tensor:
        """Choose the patches of a class that are kept, the best first.

        Args:
            patches: The best crop of each image, float32 ``(n, 3, s, s)``.
            scores: Theirs, ``(n,)``; the lowest are the best.
            count: How many are wanted, at most n.
            label: The class.

        Returns:
            int64 ``(count,)``.
        """

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take a crop or two of a few images, and grids that those fill."""
        changes: dict[str, Any] = {
            "pool": lower(given.get("pool", 8), 8),
            "crops": lower(given.get("crops", 2), 2),
            "source_size": None,
        }
        if given.get("factor") is not None:
            changes |= tiny_grid(given)
        return {**super().tiny(given), **accepted(cls, changes)}

    @property
    def sees_normalized(self) -> bool:
        """No: pixels are cut out as they are, and networks normalise by numbers of their own."""
        return False

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, grids that do not divide the images, and more patches than a pool has."""
        super().check(data)
        for name in ("pool", "crops", "batch_size"):
            check_number(name, getattr(self, name), at_least=1)
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(
                f"crop_scale must be [low, high] with 0 < low <= high <= 1, shares of an image's area, not [{low}, {high}]: "
                "no crop is larger than its image."
            )
        check_grid(data, self._factor(data))
        if self.source_size is not None and not self.source_size >= data.image_size:
            raise UserError(
                f"source_size is {self.source_size}, but {data.name} has images of {data.image_size} pixels: patches would be "
                f"larger than what they are cut out of. Give at least {data.image_size}, or leave it out."
            )
        self._check_pool(data)

    def _check_pool(self, data: ImageDataModule) -> None:
        """Refuse a budget that needs more patches, one of each image, than a pool has images."""
        factor = self._factor(data)
        wanted = self.ipc * factor**2
        name, size = smallest_class(data)
        if wanted <= min(self.pool, size):
            return
        needs = f"ipc is {self.ipc} and factor {factor}, so that each class needs {wanted} patches, one an image"
        if size < wanted:
            raise UserError(
                f"{needs}, but class '{name}' of {data.name} has only {size} training images. Lower model.init_args.ipc or "
                "model.init_args.factor, or raise the limit."
            )
        raise UserError(
            f"{needs}, but pool is {self.pool}. Raise model.init_args.pool, or lower model.init_args.ipc or "
            "model.init_args.factor."
        )

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take the data, and a prior and a teacher that fit them; see :meth:`Distiller.attach`.

        Raises:
            UserError: If one is missing, or knows other classes or, a teacher, other sizes.
            NotFiniteError: If the teacher's weights are NaN or infinite.
        """
        super().attach(data, prior=prior, teacher=teacher)
        if self.teacher is not None:
            self.teacher.check_matches(data)
            self.teacher.check_finite()
        if self.prior is not None and self.prior.num_classes not in (None, data.num_classes):
            raise UserError(
                f"The prior {self.prior.origin} knows {self.prior.num_classes} classes, but {data.name} has "
                f"{data.num_classes}: use a prior that was trained on this dataset, or say by prior.init_args.classes which "
                "of its classes these are."
            )

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Students train as RDED's do, whose crops keep at least one part of the ``factor`` patches along a side."""
        factor, size = self._factor(self.data), self.data.image_size
        usual = factor == default_factor(size)
        usual = factor == default_factor(size)
        overrides = {} if usual else {"crop_scale": [1 / factor, 1.0]}
        return SetForm(recipe=SetRecipe("rded", overrides))

    def facts(self) -> dict[str, Any]:
        """Say that images are collages, where they are, for recipes that shuffle the patches."""
        factor = self._factor(self.data)
        return {**super().facts(), **({"collage": factor} if factor > 1 else {})}

    @torch.no_grad()
    def distill(self, item: WorkItem) -> Shard:
        """Score the crops of one class, keep the best of each image, choose among these and put them together."""
        (label,) = item.classes
        factor = self._factor(self.data)
        proposals = self.propose(label)
        scores = self.patch_score(label).score(proposals)
        if not is_finite(scores):
            raise NotFiniteError(
                f"{self.method}: scores of class '{self.data.classes[label].name}' are not finite (NaN or infinite): the "
                "weights of the prior are broken, or it overflows (prior.init_args.dtype float16; float32 does not)."
            )
        boxes, best = best_boxes(proposals.boxes, scores)
        patches = cut_patches(proposals.images, boxes, proposals.side)
        chosen = self.choose(patches, best, self.ipc * factor**2, label)
        # Row i: the patches of image i, in the order in which they fill it.
        cells = chosen.reshape(factor**2, self.ipc).T
        indices = proposals.positions[cells]
        info = {
            "indices": indices.tolist(),
            "points": len(self.data.train.of_class(label)),
            "score": float(best[chosen].double().mean()),
            "score_pool": float(best.double().mean()),
        }
        return Shard(
            to_uint8(stitch(patches[chosen], factor)),
            torch.full((self.ipc,), label),
            {"indices": indices, "boxes": boxes[cells], "scores": best[cells]},
            info,
        )

    def propose(self, label: int) -> Proposals:
        """Draw the pool of a class, and crops of its images."""
        members = self.data.train.of_class(label)
        order = torch.randperm(len(members), generator=generator_for(self.seed, "pool", label))
        numbers = order[: self.pool]
        positions = members[numbers]
        source = self.source_size or default_source(self.data.image_size)
        same = source == self.data.image_size
        split = self.data.train if same else self.data.train.at_size(source)
        images = split.load(positions.tolist())
        size = (images.shape[-2], images.shape[-1])
        boxes = propose_boxes(
            numbers.tolist(), self.crops, size, self.crop_scale, seed=self.seed, label=label
        )
        side = self.data.image_size // self._factor(self.data)
        return Proposals(label, self.data.train, positions, numbers, images, boxes, side)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average over classes the scores of what is kept, and of the best crop of every image of the pool."""
        return {name: fmean(info[name] for info in infos) for name in ("score", "score_pool")}

    def pooled(self, sizes: Sizes) -> int:
        """Count the images of all pools, as of classes that are as large as the largest."""
        return min(sizes.num_classes * min(self.pool, sizes.largest_class), sizes.train_images)

    def stored(self, sizes: Sizes) -> dict[str, int]:
        """Count the bytes of the images that are kept."""
        return {"images": image_bytes(sizes, self.ipc)}

    def factor_at(self, image_size: int) -> int:
        """Return the patches along a side of a stored image of so many pixels."""
        return default_factor(image_size) if self.factor is None else self.factor

    def _factor(self, data: ImageDataModule) -> int:
        return self.factor_at(data.image_size)
