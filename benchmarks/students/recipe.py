"""What a recipe is: a protocol for training a student on a distilled set."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.students.plan import Plan
from benchmarks.students.recipe_tables import (
    ByClassesAndIpc,
    are_counts,
    are_shares,
    entry_from,
    in_table,
    least,
    most,
)
from ddoq.augmentation.siamese import parse_strategy
from ddoq.errors import UserError
from ddoq.optimisation.schedules import cosine_factor
from ddoq.seeding import check_seed
from ddoq.storage.records import hashed_fields

_LATER = {"since": 2}  # a field that came after results had been written; see ddoq.storage.records


@dataclass(frozen=True)
class Recipe:
    """How a student is trained. Every constant stands with its source in ``benchmarks/students/recipe_files``.

    Some values may be tables: ``{1: 10, 10: 50, 50: 100}`` means 10 from 1 on, 50 from 10 on, 100 from 50 on.
    :meth:`plan` looks them up.

    Attributes:
        name: What tables call it.
        epochs: Passes over the distilled set; or a table by number of classes, then by images per class.
        batch_size: Images per optimiser step over all ranks; a smaller set is one batch. Or a table, as ``epochs``.
        optimizer: ``adamw`` (without weight decay it is Adam) or ``sgd``.
        lr: Learning rate at the start; ``set`` takes the one that was learned with the set.
        lr_by_arch: Other learning rates for architectures whose name starts so; the longest match counts.
        weight_decay: Decoupled for ``adamw``.
        weight_decay_on: ``matrices`` decays only tensors of two or more dimensions, ``weights`` of these only those whose
            name contains "weight" (no bias tables, no class tokens), ``all`` everything.
        betas: Of ``adamw``.
        momentum: Of ``sgd``.
        schedule: ``cosine``, ``multistep`` or ``constant``; the rate is set once an epoch.
        zeta: Stretch of the cosine: 1 ends at 0, 2 at half of ``lr``.
        labels: ``online``: the teacher labels the augmented images; ``stored``: it labelled them once, in files that
            students of all seeds share; ``hard``: the class labels of the set; ``set``: the targets that came with it.
        loss: ``kl`` or ``ce``; they differ by the teacher's entropy, so students learn the same. ``mse``: the squared
            error between logits and the teacher's logits or the set's targets, whatever the temperature.
        temperature: Softens both distributions.
        scale_t2: Whether the soft loss is multiplied by the squared temperature.
        crop_scale: Smallest and largest share of the area that a crop keeps; or a table of such pairs by the side
            of the images in pixels.
        crop_ratio: Smallest and largest width over height of a crop.
        flip: Whether half of the images are mirrored.
        cutmix_alpha: Parameter of CutMix; 0 mixes nothing.
        reduction: ``batch`` divides the weighted sum by the batch size, ``weights`` by the sum of weights.
        weight_under_cutmix: ``mix`` mixes weights as pixels, ``base`` keeps the weight of the base image.
        milestones: Shares of the epochs after which ``multistep`` lowers the rate.
        gamma: What ``multistep`` multiplies the rate by at each milestone.
        patch_shuffle: Whether the strips of collages (sets whose record has ``collage``, the patches along a side)
            change places.
        color_jitter: Brightness, contrast and saturation change by up to this share; 0 changes nothing.
        pca_lighting: Standard deviation of AlexNet's lighting noise; 0 adds none.
        label_seed: Draws the augmentation where labels are stored; elsewhere a student's own seed does.
        label_top_k: Likeliest classes that a stored label keeps, the rest being spread evenly; 0 keeps all.
        test_resize: What the shorter side of a test image is brought to before its centre is cut out, by the side of the
            images; where a side is missing, test images are shown whole. ``data.test_resize`` overrules it.
        siamese: Strategy of differentiable Siamese augmentation, e.g. ``color_crop_cutout_flip_scale_rotate``, of which
            each image draws one kind an epoch; ``none`` leaves it out. It takes the place of all other augmentation.
        bn_batch: Images over which a student's batch normalisation takes statistics: a batch goes through the network in
            the nearest number of equal parts; 0 takes the whole batch.
        cutmix_per: ``image`` draws a box and a partner for each image; ``batch`` one box for all images of a batch, whose
            partners are of the same batch. The same of MixUp's shares.
        jitter_clamp: Whether pixels are cut off at 0 and 1 after every change of colour.
        weights: ``loss`` multiplies losses by the weights of images; ``sampling`` draws images in proportion to them,
            anew for every epoch, and lets all losses count the same.
        pad_crop: Pixels of black around an image out of which it is cropped at random, in the place of resized crops; 0
            crops nothing.
        mixup_alpha: Parameter of MixUp, in the place of CutMix; 0 blends nothing.
        teacher_mode: ``eval``, or ``train``: the teacher's batch normalisation takes the statistics of the batch that it
            labels, so that labels depend on batch size and order. That batch is the whole one on any number of ranks.
            Nothing that the teacher remembers changes, and its dropout stays off. Only for labels made online.
        warmup: Epochs in which the rate of ``cosine`` rises along a line, from a hundredth; or a table, as ``epochs``.
        staged: Whether images join stage by stage, where the set has stages: ``epochs`` on those of the first, as many on
            those of the first two, and so on. Weights and the state of the optimiser are kept; the schedule begins anew,
            with ``lr: set`` at the rate of the stage.
        changed: Names of the values that differ from the recipe of that name.
    """

    name: str
    epochs: ByClassesAndIpc
    batch_size: ByClassesAndIpc
    optimizer: Literal["adamw", "sgd"]
    lr: float | Literal["set"]
    weight_decay: float
    schedule: Literal["cosine", "multistep", "constant"]
    labels: Literal["online", "stored", "hard", "set"]
    loss: Literal["kl", "ce", "mse"]
    temperature: float
    crop_scale: tuple[float, float] | dict[int, tuple[float, float]]
    crop_ratio: tuple[float, float]
    flip: bool
    cutmix_alpha: float
    lr_by_arch: dict[str, float] = field(default_factory=dict)
    weight_decay_on: Literal["matrices", "weights", "all"] = "matrices"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    zeta: float = 1.0
    scale_t2: bool = False
    reduction: Literal["batch", "weights"] = "batch"
    weight_under_cutmix: Literal["mix", "base"] = "mix"
    milestones: tuple[float, ...] = field(default=(), metadata=_LATER)
    gamma: float = field(default=0.1, metadata=_LATER)
    patch_shuffle: bool = field(default=False, metadata=_LATER)
    color_jitter: float = field(default=0.0, metadata=_LATER)
    pca_lighting: float = field(default=0.0, metadata=_LATER)
    label_seed: int = field(default=0, metadata=_LATER)
    label_top_k: int = field(default=0, metadata=_LATER)
    siamese: str = field(default="none", metadata=_LATER)
    bn_batch: int = field(default=0, metadata=_LATER)
    cutmix_per: Literal["image", "batch"] = field(default="image", metadata=_LATER)
    jitter_clamp: bool = field(default=True, metadata=_LATER)
    weights: Literal["loss", "sampling"] = field(default="loss", metadata=_LATER)
    pad_crop: int = field(default=0, metadata=_LATER)
    mixup_alpha: float = field(default=0.0, metadata=_LATER)
    teacher_mode: Literal["eval", "train"] = field(default="eval", metadata=_LATER)
    warmup: ByClassesAndIpc = field(default=0, metadata=_LATER)
    test_resize: dict[int, int] = field(default_factory=dict, metadata=_LATER)
    staged: bool = field(default=False, metadata=_LATER)
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that no training could use."""
        check_seed(f"Recipe {self.name!r}: label_seed", self.label_seed)
        narrow, wide = self.crop_ratio
        rules = {
            "epochs": (are_counts(self.epochs), f"at least 1{in_table(self.epochs)}"),
            "batch_size": (are_counts(self.batch_size), f"at least 1{in_table(self.batch_size)}"),
            "lr": (self.lr == "set" or 0 < self.lr < math.inf, "above 0, or 'set'"),
            "lr_by_arch": (all(0 < lr < math.inf for lr in self.lr_by_arch.values()), "above 0"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)"),
            "momentum": (0 <= self.momentum < 1, "in [0, 1)"),
            "zeta": (1 <= self.zeta < math.inf, "at least 1: below, the rate would rise again"),
            "temperature": (0 < self.temperature <= 1000, "in (0, 1000]"),
            "crop_scale": (
                are_shares(self.crop_scale),
                f"two ascending numbers in (0, 1]{in_table(self.crop_scale)}",
            ),
            "crop_ratio": (0 < narrow <= wide < math.inf, "two ascending numbers above 0"),
            "cutmix_alpha": (0 <= self.cutmix_alpha <= 1000, "in [0, 1000]"),
            "milestones": (
                list(self.milestones) == sorted(self.milestones)
                and all(0 < share < 1 for share in self.milestones)
                and bool(self.milestones) >= (self.schedule == "multistep"),
                "ascending numbers in (0, 1), at least one where schedule is 'multistep'",
            ),
            "gamma": (0 < self.gamma <= 1, "in (0, 1]"),
            "color_jitter": (0 <= self.color_jitter <= 1, "in [0, 1]"),
            "pca_lighting": (0 <= self.pca_lighting <= 10, "in [0, 10]"),
        }
        for key, (holds, rule) in {**rules, **self._joint_rules()}.items():
            if not holds:
                raise UserError(
                    f"Recipe {self.name!r}: {key} must be {rule}, not {getattr(self, key)!r}."
                )

    def _joint_rules(self) -> dict[str, tuple[bool, str]]:
        """Return whether each value of a kind goes with the others, and what it must be."""
        return {
            "label_seed": (
                self.labels == "stored" or self.label_seed == 0,
                "0 unless labels is 'stored': elsewhere augmentation follows the student's seed",
            ),
            "label_top_k": (
                self.label_top_k >= 0 and (self.labels == "stored" or self.label_top_k == 0),
                "at least 0, and 0 unless labels is 'stored'",
            ),
            "bn_batch": (
                self.bn_batch == 0 or self.bn_batch >= 2,
                "0 or at least 2: one image has no batch statistics",
            ),
            "weights": (
                self.weights == "loss" or self.labels != "stored",
                "'loss' where labels is 'stored': those belong to an image and an epoch, not to a draw",
            ),
            "loss": (
                (self.labels != "hard" or self.loss == "ce")
                and (self.label_top_k == 0 or self.loss != "mse"),
                "'ce' where labels is 'hard', and not 'mse' where stored labels keep but some classes",
            ),
            "test_resize": (
                all(0 < side <= resize <= 2 * side for side, resize in self.test_resize.items()),
                "a table from sides of images to numbers of pixels, at least the side and at most twice it",
            ),
            "staged": (
                not self.staged
                or (
                    self.labels != "stored"
                    and self.weights == "loss"
                    and self.cutmix_alpha == self.mixup_alpha == 0
                ),
                "false where labels is 'stored', weights is 'sampling' or images are mixed: they show images too early",
            ),
            **self._rules_of_views(),
        }

    def _rules_of_views(self) -> dict[str, tuple[bool, str]]:
        """Return what must hold of the ways to change images and to label them, by key."""
        return {
            "siamese": (
                not self._kinds() or not self._augments(),
                "'none' beside crops, flips, CutMix, MixUp, colour changes or shuffled patches: it brings its own",
            ),
            "pad_crop": (
                self.pad_crop == 0 or (self.pad_crop > 0 and not self._resizes()),
                "at least 0, and 0 unless crop_scale is [1, 1]: an image is cropped in one way",
            ),
            "mixup_alpha": (
                0 <= self.mixup_alpha <= 1000 and not (self.mixup_alpha and self.cutmix_alpha),
                "in [0, 1000], and 0 unless cutmix_alpha is 0: an image is mixed in one way",
            ),
            "teacher_mode": (
                self.teacher_mode == "eval" or self.labels == "online",
                "'eval' unless labels is 'online': batch statistics make labels of a batch, not of an image and epoch",
            ),
            "warmup": (
                self.warmup == 0
                or (
                    self.schedule == "cosine"
                    and are_counts(self.warmup)
                    and most(self.warmup) < least(self.epochs)
                ),
                f"at least 0 and below epochs, and 0 unless schedule is 'cosine'{in_table(self.warmup)}",
            ),
        }

    def _kinds(self) -> tuple[str, ...]:
        """Read the strategy of Siamese augmentation."""
        try:
            return parse_strategy(self.siamese)
        except UserError as error:
            raise UserError(f"Recipe {self.name!r}: siamese: {error}") from None

    def _augments(self) -> bool:
        """Say whether images change in any other way than Siamese augmentation."""
        crops = self._resizes() or self.pad_crop > 0
        mixes = self.cutmix_alpha > 0 or self.mixup_alpha > 0 or self.patch_shuffle
        return crops or self.flip or mixes or self.color_jitter > 0 or self.pca_lighting > 0

    def _resizes(self) -> bool:
        return self.crop_scale != (1.0, 1.0)

    @property
    def mixes_by_batch(self) -> bool:
        """Whether all images of a batch are mixed by one box, or one share."""
        return (self.cutmix_alpha > 0 or self.mixup_alpha > 0) and self.cutmix_per == "batch"

    @property
    def needs_teacher(self) -> bool:
        """Whether a teacher labels the images."""
        return self.labels in ("online", "stored")

    @property
    def label(self) -> str:
        """The name, followed by what was changed: how results and tables call it."""
        changes = ",".join(f"{key}={_compact(getattr(self, key))}" for key in self.changed)
        return f"{self.name}[{changes}]" if changes else self.name

    def learning_rate(self, arch: str) -> float | Literal["set"]:
        """Return the learning rate at the start for an architecture, or that the set has it.

        The library's name does not count, and torchvision's ``mobilenet_v2`` is of the family ``mobilenetv2``.
        """
        name = arch.rpartition("/")[2]
        names = (arch, name, name.replace("mobilenet_v", "mobilenetv"))
        matches = [prefix for prefix in self.lr_by_arch if any(n.startswith(prefix) for n in names)]
        return self.lr_by_arch[max(matches, key=len)] if matches else self.lr

    def plan(self, ipc: int, num_classes: int, n: int, image_size: int, stages: int = 1) -> Plan:
        """Look up what depends on the distilled set.

        Args:
            ipc: Images per class, at least 1.
            num_classes: Number of classes.
            n: Images in the set.
            image_size: Side of the images in pixels.
            stages: Of the set; they count where ``staged``.

        Returns:
            Epochs, batch and crops for this set.

        Example:
            >>> from benchmarks.students.recipes import load_recipe
            >>> load_recipe("hard_idc").plan(ipc=20, num_classes=10, n=200, image_size=224).epochs
            1500
        """
        epochs, batch_size, scale = (self.epochs, self.batch_size, self.crop_scale)
        if isinstance(epochs, dict):
            epochs = entry_from(entry_from(epochs, num_classes), ipc)
        if isinstance(batch_size, dict):
            batch_size = entry_from(entry_from(batch_size, num_classes), ipc)
        if isinstance(scale, dict):
            scale = entry_from(scale, image_size)
        warmup = self.warmup
        if isinstance(warmup, dict):
            warmup = entry_from(entry_from(warmup, num_classes), ipc)
        stages = stages if self.staged else 1
        return Plan(epochs * stages, min(batch_size, n), scale, warmup, stages)

    def test_side(self, image_size: int) -> int:
        """Return what the shorter side of a test image is brought to before its centre is cut out.

        Example:
            >>> from benchmarks.students.recipes import load_recipe
            >>> [load_recipe(name).test_side(224) for name in ("sre2l", "rded", "hard_idc")]
            [256, 256, 224]
        """
        return self.test_resize.get(image_size, image_size)

    def lr_factor(self, epoch: int, epochs: int, warmup: int | None = None) -> float:
        r"""Return what the learning rate is multiplied by in an epoch.

        .. math::
            \text{cosine: } \tfrac{1}{2} \left(1 + \cos \frac{\pi e}{\zeta E}\right) \qquad
            \text{multistep: } \gamma^{|\{m : \lfloor m E \rfloor \le e\}|}

        Args:
            epoch: :math:`e`, counts from 0.
            epochs: :math:`E`, of the :class:`Plan`.
            warmup: Of the plan, too; the recipe's own number where omitted, if it is one.

        A warm-up shortens the cosine, see :func:`ddoq.optimisation.schedules.cosine_factor`.

        Returns:
            A number in [0, 1].
        """
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "multistep":
            # A share such as 2/3 times E may come out a little below a whole number.
            passed = [m for m in self.milestones if math.floor(m * epochs + 1e-9) <= epoch]
            return self.gamma ** len(passed)
        if warmup is None:
            warmup = self.warmup if isinstance(self.warmup, int) else 0
        return cosine_factor(epoch, epochs, warmup=warmup, zeta=self.zeta)

    def config(self) -> dict[str, Any]:
        """Return the values that decide a training, as results record and hash them.

        Fields that recipes gained after results had been written appear only where they are used; see
        :func:`ddoq.storage.records.hashed_fields`. How test images are resized stands with the dataset: it depends on the
        side of the images, and a row whose test images it leaves alone is the same row.

        Returns:
            Values by field name.

        Example:
            >>> from benchmarks.students.recipes import load_recipe
            >>> "milestones" in load_recipe("unified").config(), "milestones" in load_recipe("hard_idc").config()
            (False, True)
        """
        return {k: value for k, value in hashed_fields(self).items() if k != "test_resize"}


def _compact(value: Any) -> str:
    """Write a value for a label: ``0.5-1`` for a range, ``resnet:0.001`` for a mapping."""
    if isinstance(value, tuple):
        return "-".join(_compact(part) for part in value)
    if isinstance(value, dict):
        return "+".join(f"{key}:{_compact(item)}" for key, item in sorted(value.items())) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
