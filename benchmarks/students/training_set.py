"""A distilled set as a recipe shows it to students: decoded, augmented, in the space of their networks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.students.augmentation import Draws, collage_of, draw_recipe_epoch
from benchmarks.students.plan import Plan
from benchmarks.students.recipe import Recipe
from ddoq.augmentation.epochs import augment
from ddoq.augmentation.siamese import augment_pixels, augment_siamese
from ddoq.data.base import IMAGENET_MEAN, IMAGENET_STD
from ddoq.decoding.decoded import Decoded
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.images import to_float


@dataclass(frozen=True)
class TrainingSet:
    """What all students of one set and one recipe share.

    A network takes images in [0, 1] and normalises them itself, unless the set brings a transform: then networks take
    images of its space, and real images are mapped there.

    Attributes:
        decoded: Images, labels, targets and weights.
        recipe: How students are trained.
        plan: What the recipe comes to for this set.
        mean: Channel means of the dataset, for images in [0, 1].
        std: Channel standard deviations.
        class_names: Names in label order.
        collage: Patches along a side of the images that are shuffled; 1 shuffles none.
        fingerprint: Of the set.
        learned_lr: The learning rate that came with the set, if any.
        stage_lrs: Those of its stages, if any.
    """

    decoded: Decoded
    recipe: Recipe
    plan: Plan
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: list[str]
    collage: int = 1
    fingerprint: str = ""
    learned_lr: float | None = None
    stage_lrs: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        distilled: DistilledSet,
        recipe: Recipe,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> "TrainingSet":
        """Decode a set and look up what the recipe comes to for it.

        Args:
            distilled: The set.
            recipe: How students are trained.
            mean: Channel means of the dataset.
            std: Channel standard deviations of the dataset.
        """
        decoded = distilled.decode()
        classes = len(distilled.class_names)
        stages = 1 if decoded.stages is None else int(decoded.stages.max()) + 1
        plan = recipe.plan(distilled.ipc, classes, len(decoded), min(decoded.size), stages)
        set_recipe = distilled.form.recipe
        return cls(
            decoded,
            recipe,
            plan,
            mean,
            std,
            distilled.class_names,
            collage_of(recipe, distilled),
            distilled.fingerprint,
            None if set_recipe is None else set_recipe.lr,
            () if set_recipe is None else set_recipe.stage_lrs,
        )

    def __len__(self) -> int:
        """Count the training images."""
        return len(self.decoded)

    def to(self, device: torch.device | str) -> "TrainingSet":
        """Copy to a device what training reads in every step."""
        return replace(self, decoded=self.decoded.to(device))

    def of_stage(self, stage: int) -> Tensor | None:
        """Return the positions of the images of a stage and those before it, int64 ``(m,)``; None where they are all."""
        stages = self.decoded.stages
        if stages is None or self.plan.stages == 1:
            return None
        return torch.nonzero(stages.cpu() <= stage).flatten()

    @property
    def shown(self) -> int:
        """Images that a whole training shows to a student."""
        parts = [self.of_stage(stage) for stage in range(self.plan.stages)]
        sizes = [len(self) if part is None else len(part) for part in parts]
        return self.plan.stage_epochs * sum(sizes)

    def rates(self, arch: str) -> tuple[float, ...]:
        """Return the learning rate at the start of each stage; see :meth:`learning_rate`."""
        rate, stages = self.recipe.learning_rate(arch), self.plan.stages
        if rate == "set" and len(self.stage_lrs) == stages:
            return self.stage_lrs
        return (self.learning_rate(arch),) * stages

    def target_values(self) -> Tensor:
        """Return what the recipe's loss takes of the set's targets, float32 ``(n, d)``; empty where it takes none."""
        targets = self.decoded.targets
        if self.recipe.labels != "set" or targets is None:
            return torch.empty(0)
        return targets.values if self.recipe.loss == "mse" else targets.as_logits()

    def draw(self, seed: int, epoch: int) -> Draws:
        """Draw the augmentation of an epoch, on the CPU."""
        return draw_recipe_epoch(
            self.recipe,
            self.plan,
            len(self),
            self.decoded.size,
            collage=self.collage,
            seed=seed,
            epoch=epoch,
            weights=self.decoded.weights,
        )

    def images(self, positions: Tensor, draws: Draws) -> Tensor:
        """Make the training images of a batch.

        Args:
            positions: int64 ``(b,)``: which images, or which draws of the epoch.
            draws: The parameters of the epoch, on the same device.

        Returns:
            float32 ``(b, 3, h, w)``, in the space of networks.
        """
        decoded = self.decoded
        if draws.siamese is None:
            images = augment(decoded.images, positions, draws.epoch)
            return self._to_networks(images) if decoded.gives_pixels else images
        images = decoded.images[draws.images_of(positions)]
        rows = draws.siamese.rows(positions)
        images = to_float(images) if images.dtype == torch.uint8 else images
        if decoded.transform is None:
            return augment_pixels(images, rows, self.mean, self.std)
        # The authors augment what their networks see.
        return augment_siamese(self._to_networks(images) if decoded.gives_pixels else images, rows)

    def real_images(self, images: Tensor) -> Tensor:
        """Map real images, uint8 ``(b, 3, h, w)``, to the space of networks."""
        return self._to_networks(to_float(images))

    def _to_networks(self, images: Tensor) -> Tensor:
        transform = self.decoded.transform
        return images if transform is None else transform.apply(images)

    def for_teacher(self, images: Tensor) -> Tensor:
        """Map what :meth:`images` returned to pixels, which teachers take."""
        transform = self.decoded.transform
        return images if transform is None else transform.invert(images)

    def learning_rate(self, arch: str) -> float:
        """Return the learning rate at the start for an architecture.

        Raises:
            UserError: If the recipe takes it from the set, and the set has none.
        """
        rate = self.recipe.learning_rate(arch)
        if rate != "set":
            return rate
        if self.learned_lr is None:
            raise UserError(
                f"Recipe {self.recipe.label!r} starts from the learning rate that came with the set, but this set has none: "
                "give recipe.overrides.lr a number."
            )
        return self.learned_lr

    def check(self) -> None:
        """Refuse a recipe that this set cannot be trained by.

        Raises:
            UserError: Saying what does not fit, and what would.
        """
        recipe, decoded, num_classes = self.recipe, self.decoded, len(self.class_names)
        name = f"Recipe {recipe.label!r}"
        if recipe.labels == "hard" and decoded.labels is None:
            raise UserError(f"{name} needs class labels, which the set lacks: use `labels: set`.")
        if recipe.labels == "set":
            if decoded.targets is None:
                raise UserError(
                    f"{name} has `labels: set`, but the set came without targets: use `labels: hard` or `online`."
                )
            if decoded.targets.width != num_classes:
                raise UserError(
                    f"The targets of the set have length {decoded.targets.width}, but students answer with "
                    f"{num_classes} classes: use `labels: hard` or `online`."
                )
            if decoded.targets.kind == "vectors" and recipe.loss != "mse":
                raise UserError(
                    f"{name} has loss {recipe.loss!r}, but the targets of the set are vectors: use `loss: mse`."
                )
        if recipe.pad_crop >= min(decoded.size):
            raise UserError(
                f"{name} has pad_crop {recipe.pad_crop}, but the images of the set have {min(decoded.size)} pixels a side: "
                "make it smaller, or nothing of them may be left."
            )
        if recipe.pad_crop > 0 and not decoded.gives_pixels:
            raise UserError(
                f"{name} crops out of black borders, but the images of the set lie in a space without black: set pad_crop "
                "to 0, or evaluation.set_precision to uint8, which maps them back to pixels."
            )
        recolours = recipe.color_jitter > 0 or recipe.pca_lighting > 0
        if recolours and not decoded.gives_pixels:
            raise UserError(
                f"{name} changes colours in [0, 1], but the images of the set lie in another space: set color_jitter and "
                "pca_lighting to 0, or evaluation.set_precision to uint8, which maps them back to pixels."
            )
