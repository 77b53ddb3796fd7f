"""The SRe2L distiller: blocks of noise that a teacher's gradients turn into images."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from baselines.sre2l.augmentation import Augmentation, draw_augmentations
from baselines.sre2l.codec import JPEG_CODEC, through_jpeg, truncate
from baselines.sre2l.compiled import CompiledObjective
from baselines.sre2l.recover import Recovery, batch_norms, recover
from ddoq.costs.stages import gradient_stage, judging_stage
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.finite import check_images
from ddoq.images import to_uint8
from ddoq.precision import Precision, autocast, check_precision
from ddoq.priors.base import Prior
from ddoq.seeding import generator_for
from ddoq.smoke import lower
from ddoq.teachers import Teacher, teacher_accuracy

_log = logging.getLogger(__name__)


class SRe2L(Distiller):
    r"""Optimise noise until the teacher classifies it as told and its batch norms see familiar statistics.

    One batch is a group: image :math:`i` of up to ``class_block`` different classes, one image each. The composition
    is part of the method, since batch statistics are matched. One work item is one group, or ``groups_per_step``
    neighbouring ones that share passes through the teacher; statistics, crops and draws stay each group's own. The loss
    is in :mod:`baselines.sre2l.recover`. The defaults are those of the official ImageNet-1K script; the README beside
    this file lists the others.

    Shards do not depend on ``ipc``: a run with more images per class reuses those of a run with fewer. They do
    depend on ``groups_per_step`` and ``compile``, since both change rounding, which thousands of iterations amplify.

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
        class_block: Most classes, and so images, of a group.
        groups_per_step: Groups that are recovered together: fewer, larger passes for a device that 100 images do not
            fill.
        compile: Compile the teacher with the statistics of its batch norms (``torch.compile``): minutes once a run.
        crop_curriculum: Share of the iterations during which the least share of the area of a crop falls from the
            greatest along a cosine; 0 has no curriculum, CDA uses 1.
        faithful: Store images as the official code does: pixels truncated, then JPEG of quality 75 with halved
            colour resolution.
        precision: ``bf16-mixed`` computes the teacher's passes in bfloat16; images, their statistics and Adam stay in
            float32.
    """

    method = "sre2l"
    needs_gradient = True
    added: ClassVar = {
        "groups_per_step": 1,
        "compile": False,
        "crop_curriculum": 0.0,
        "faithful": False,
    }
    neutral = ("precision",)  # stands in the context of keys, where that of the trainer was

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
        groups_per_step: int = 1,
        compile: bool = False,
        crop_curriculum: float = 0.0,
        faithful: bool = False,
        precision: Precision = "32-true",
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
        self.groups_per_step = groups_per_step
        self.compiles = compile  # a module's `compile` is a method
        self.crop_curriculum = crop_curriculum
        self.faithful = faithful
        self._precision = precision
        self._objectives: dict[tuple[int, ...], CompiledObjective] = {}

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Shift small images by little, too."""
        return {**super().tiny(given), "jitter": lower(given.get("jitter", 2), 2)}

    @property
    def precision(self) -> Precision:
        """Of the teacher's passes."""
        return self._precision

    @property
    def sees_normalized(self) -> bool:
        """No: the teacher normalises by numbers of its own."""
        return False

    @property
    def reads_images(self) -> bool:
        """No: it has what it knows of them from the teacher."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """The teacher is all that is left of the data."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        check_precision("precision", self.precision)
        least: dict[str, tuple[float, int]] = {
            "iterations": (self.iterations, 1),
            "class_block": (self.class_block, 1),
            "groups_per_step": (self.groups_per_step, 1),
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
        if not 0 <= self.crop_curriculum <= 1:
            raise UserError(
                f"crop_curriculum must be in [0, 1], a share of the iterations, not {self.crop_curriculum}."
            )
        if self.crop_scale is None and self.crop_curriculum:
            raise UserError(
                "crop_curriculum moves the lower end of crop_scale, but crop_scale is null: "
                "give crop_scale, e.g. [0.08, 1.0], or set crop_curriculum to 0."
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
            NotFiniteError: If its weights or statistics are NaN or infinite.
        """
        super().attach(data, prior=prior, teacher=teacher)
        assert teacher is not None
        if not batch_norms(teacher.network):
            raise UserError(
                f"SRe2L matches batch normalisation statistics, but the teacher {teacher.arch} has none. "
                "Choose one that has, e.g. arch: resnet18 or arch: convnet3-bn."
            )
        teacher.check_matches(data)
        teacher.check_finite()

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per group, or per ``groups_per_step`` neighbouring groups."""
        groups = self._groups(data)
        parts = [
            groups[i : i + self.groups_per_step]
            for i in range(0, len(groups), self.groups_per_step)
        ]
        return [
            WorkItem(
                index,
                # A bundle cut short by ipc has another name, so that a larger run does not take it for whole.
                f"image-{part[0][0]:04d}-classes-{part[0][1][0]:04d}"
                + (f"-groups-{len(part)}" if self.groups_per_step > 1 else ""),
                tuple(label for _, classes in part for label in classes),
                part[0][0],
            )
            for index, part in enumerate(parts)
        ]

    def _groups(self, data: ImageDataModule) -> list[tuple[int, tuple[int, ...]]]:
        """List image id and classes of each group, image ids first, as the official single-GPU code goes."""
        labels = range(data.num_classes)
        blocks = [tuple(labels[i : i + self.class_block]) for i in labels[:: self.class_block]]
        return [(image, block) for image in range(self.ipc) for block in blocks]

    def shard_settings(self) -> dict[str, Any]:
        """Leave out ``ipc``: it decides how many items there are, not what is in one."""
        return {k: v for k, v in super().shard_settings().items() if k != "ipc"}

    def distill(self, item: WorkItem) -> Shard:
        """Recover the groups of an item and let the teacher judge what will be stored."""
        assert self.teacher is not None
        labels = torch.tensor(item.classes)
        mean = torch.as_tensor(self.teacher.mean, dtype=torch.float32).reshape(-1, 1, 1)
        std = torch.as_tensor(self.teacher.std, dtype=torch.float32).reshape(-1, 1, 1)
        with autocast(self.device, self.precision):
            recovery = self._recover(item, labels, -mean / std, (1 - mean) / std)
        pixels = recovery.images.cpu() * std + mean
        check_images(pixels, "The recovered images", f"Lower model.init_args.lr (now {self.lr:g}).")
        images = through_jpeg(truncate(pixels)) if self.faithful else to_uint8(pixels)
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
        start = item.index * self.groups_per_step
        groups = self._groups(self.data)[start : start + self.groups_per_step]
        noises, augmentations = zip(*(self._draw(*group) for group in groups), strict=True)
        # A group alone is no group: the same operations, and so the same bits, as ever.
        sizes = tuple(len(classes) for _, classes in groups) if len(groups) > 1 else None
        return recover(
            self.teacher.network,
            torch.cat(noises).to(self.device),
            labels.to(self.device),
            augmentations if sizes else augmentations[0],
            low=low.to(self.device),
            high=high.to(self.device),
            lr=self.lr,
            r_bn=self.r_bn,
            first_bn_multiplier=self.first_bn_multiplier,
            sizes=sizes,
            objective=self._compiled(sizes, len(labels)) if self.compiles else None,
            checkpoint=self.checkpoint(item),
            what=f"sre2l, {item.name}",
        )

    def _draw(self, image: int, classes: tuple[int, ...]) -> tuple[Tensor, list[Augmentation]]:
        """Draw the first noise and all augmentations of a group, whatever its neighbours are."""
        size = self.data.image_size
        keys = ("sre2l", image, classes[0], len(classes))
        noise = torch.randn(
            (len(classes), 3, size, size), generator=generator_for(self.seed, *keys, "noise")
        )
        augmentations = draw_augmentations(
            self.iterations,
            size,
            crop_scale=self.crop_scale,
            flip=self.flip,
            jitter=self.jitter,
            generator=generator_for(self.seed, *keys, "augmentations"),
            crop_curriculum=self.crop_curriculum,
        )
        return noise, augmentations

    def _compiled(self, sizes: tuple[int, ...] | None, images: int) -> CompiledObjective:
        """Return the compiled objective for these groups: one for the whole run, two where the last group is small."""
        assert self.teacher is not None
        key = sizes or (images,)
        if key not in self._objectives:
            self._objectives[key] = CompiledObjective(
                self.teacher.network, self.first_bn_multiplier, sizes
            )
        return self._objectives[key]

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Optimise every image for all iterations, and judge it once."""
        if parts.teacher is None:
            return None
        images = sizes.num_classes * self.ipc
        batch = min(min(self.class_block, sizes.num_classes) * self.groups_per_step, images)
        return [
            gradient_stage(
                "recover",
                parts.teacher,
                sizes,
                images * self.iterations,
                batch,
                files={"images": image_bytes(sizes, self.ipc)},
                note=f"{self.iterations:,} iterations of batches of {batch}",
            ),
            judging_stage(parts.teacher, sizes, images),
        ]

    def facts(self) -> dict[str, Any]:
        """Name the codec that a faithful run sends its images through."""
        return {**super().facts(), **({"codec": JPEG_CODEC} if self.faithful else {})}

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Average the terms of the loss over items and the teacher's accuracy over images."""
        images = sum(info["images"] for info in infos)
        names = [name for name in infos[0] if name != "images"]
        return {
            name: math.fsum(info[name] * info["images"] for info in infos) / images
            for name in names
        }
