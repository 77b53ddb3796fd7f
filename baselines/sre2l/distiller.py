"""The SRe2L distiller: blocks of noise that a teacher's gradients turn into images."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from baselines.sre2l.augmentation import draw_augmentations
from baselines.sre2l.recover import Recovery, batch_norms, recover
from ddoq.data import ImageDataModule
from ddoq.distiller import Distiller, Shard, WorkItem
from ddoq.errors import UserError
from ddoq.images import to_uint8
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for
from ddoq.teachers import Teacher, teacher_accuracy

_log = logging.getLogger(__name__)

# Under these the images, their statistics and Adam stay in float32.
_PRECISIONS = ("32-true", "bf16-mixed")


class SRe2L(Distiller):
    r"""Optimise noise until the teacher classifies it as told and its batch norms see familiar statistics.

    One work item is one batch: image :math:`i` of up to ``class_block`` different classes, one image each. The
    composition is part of the method, since batch statistics are matched. The loss is in
    :mod:`baselines.sre2l.recover`. The defaults are those of the official ImageNet-1K script; the README beside
    this file lists the others.

    Shards do not depend on ``ipc``: a run with more images per class reuses those of a run with fewer.

    Source: Z. Yin, E. Xing and Z. Shen, *Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A
    New Perspective*, NeurIPS 2023; constants from the official repository VILA-Lab/SRe2L at 8d00cba.

    Args:
        ipc: Images per class.
        seed: Decides initial noise and augmentations.
        iterations: Steps of Adam.
        lr: Its first learning rate; it falls to 0 along a cosine.
        r_bn: Weight of the batch normalisation loss.
        jitter: Greatest shift in pixels, drawn once an iteration; never negative.
        crop_scale: Least and greatest share of the area of the crop, drawn once an iteration; None does not crop.
        flip: Whether half of the iterations mirror the images.
        first_bn_multiplier: Weight of the first batch normalisation layer; all others have 1.
        class_block: Most classes, and so images, of a batch.
    """

    method = "sre2l"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        iterations: int = 4000,
        lr: float = 0.25,
        r_bn: float = 0.01,
        jitter: int = 32,
        crop_scale: tuple[float, float] | None = (0.08, 1.0),
        flip: bool = True,
        first_bn_multiplier: float = 10.0,
        class_block: int = 100,
    ) -> None:
        super().__init__(ipc, seed)
        self.iterations = iterations
        self.lr = lr
        self.r_bn = r_bn
        self.jitter = jitter
        self.crop_scale = crop_scale
        self.flip = flip
        self.first_bn_multiplier = first_bn_multiplier
        self.class_block = class_block

    @property
    def needs_teacher(self) -> bool:
        """The teacher is all that is left of the data."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        least: dict[str, tuple[float, int]] = {
            "iterations": (self.iterations, 1),
            "class_block": (self.class_block, 1),
            "r_bn": (self.r_bn, 0),
            "first_bn_multiplier": (self.first_bn_multiplier, 0),
        }
        for name, (value, bound) in least.items():
            if not bound <= value < math.inf:
                raise UserError(f"{name} must be at least {bound} and finite, not {value}.")
        if not 0 < self.lr < math.inf:
            raise UserError(f"lr must be above 0, not {self.lr}.")
        if not 0 <= self.jitter < data.image_size:
            raise UserError(
                f"jitter must be in [0, {data.image_size - 1}] for images of {data.image_size} pixels, "
                f"not {self.jitter}. The official scripts use 32 at 224 pixels and 4 at 64 and 32."
            )
        if self.crop_scale is not None:
            low, high = self.crop_scale
            if not 0 < low <= high <= 1:
                raise UserError(
                    f"crop_scale must be [low, high] with 0 < low <= high <= 1, or null, not [{low}, {high}]."
                )

    def attach(
        self, data: ImageDataModule, *, prior: Prior | None = None, teacher: Teacher | None = None
    ) -> None:
        """Take the data and a teacher that fits them; see :meth:`Distiller.attach`.

        Raises:
            UserError: If the teacher is missing, has no batch normalisation, or knows other classes or sizes.
        """
        super().attach(data, prior=prior, teacher=teacher)
        assert teacher is not None
        if not batch_norms(teacher.network):
            raise UserError(
                f"SRe2L matches batch normalisation statistics, but the teacher {teacher.arch} has none. "
                "Choose one that has, e.g. arch: resnet18 or arch: convnet3-bn."
            )
        teacher.check_matches(data)

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per image id and block of classes, image ids first, as the official single-GPU code goes."""
        labels = range(data.num_classes)
        blocks = [tuple(labels[i : i + self.class_block]) for i in labels[:: self.class_block]]
        pairs = [(image, block) for image in range(self.ipc) for block in blocks]
        return [
            WorkItem(index, f"image-{image:04d}-classes-{block[0]:04d}", block, image)
            for index, (image, block) in enumerate(pairs)
        ]

    def shard_settings(self) -> dict[str, Any]:
        """Leave out ``ipc``: it decides how many items there are, not what is in one."""
        return {k: v for k, v in super().shard_settings().items() if k != "ipc"}

    def on_predict_start(self) -> None:
        """Refuse precisions under which the images' gradients vanish or the images lose digits."""
        if self.trainer.precision not in _PRECISIONS:
            raise UserError(
                f"SRe2L runs with trainer.precision {' or '.join(_PRECISIONS)}, not {self.trainer.precision}."
            )

    def distill(self, item: WorkItem) -> Shard:
        """Recover one batch and let the teacher judge what will be stored."""
        assert self.teacher is not None
        labels = torch.tensor(item.classes)
        mean = torch.as_tensor(self.teacher.mean, dtype=torch.float32).reshape(-1, 1, 1)
        std = torch.as_tensor(self.teacher.std, dtype=torch.float32).reshape(-1, 1, 1)
        recovery = self._recover(item, labels, -mean / std, (1 - mean) / std)
        images = to_uint8(recovery.images.cpu() * std + mean)
        info = {
            "cross_entropy_first": recovery.cross_entropy[0],
            "cross_entropy_last": recovery.cross_entropy[1],
            "bn_loss_first": recovery.bn_loss[0],
            "bn_loss_last": recovery.bn_loss[1],
            "teacher_top1": teacher_accuracy(self.teacher, images, labels),
            "images": len(labels),
        }
        _log.info(
            "%s: cross entropy %.3g, batch norm loss %.4g (%.4g at first), teacher top-1 %.1f %%",
            item.name,
            info["cross_entropy_last"],
            info["bn_loss_last"],
            info["bn_loss_first"],
            100 * info["teacher_top1"],
        )
        return Shard(images, labels, info=info)

    def _recover(self, item: WorkItem, labels: Tensor, low: Tensor, high: Tensor) -> Recovery:
        assert self.teacher is not None
        size = self.data.image_size
        keys = ("sre2l", item.block, item.classes[0], len(item.classes))
        noise = torch.randn(
            (len(labels), 3, size, size), generator=generator_for(self.seed, *keys, "noise")
        )
        augmentations = draw_augmentations(
            self.iterations,
            size,
            crop_scale=self.crop_scale,
            flip=self.flip,
            jitter=self.jitter,
            generator=generator_for(self.seed, *keys, "augmentations"),
        )
        return recover(
            self.teacher.network,
            noise.to(self.device),
            labels.to(self.device),
            augmentations,
            low=low.to(self.device),
            high=high.to(self.device),
            lr=self.lr,
            r_bn=self.r_bn,
            first_bn_multiplier=self.first_bn_multiplier,
        )

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average the terms of the loss over items and the teacher's accuracy over images."""
        images = sum(info["images"] for info in infos)
        names = [name for name in infos[0] if name != "images"]
        return {
            name: math.fsum(info[name] * info["images"] for info in infos) / images
            for name in names
        }
