"""Images and label vectors from which ridge regression in the features of networks predicts the classes of real images."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines.frepo.objective import first_labels, label_scale, regression_gap
from baselines.pixels import PixelMethod
from baselines.regression import Regression, regress, regression_stage
from ddoq.augmentation.siamese import parse_strategy
from ddoq.bounds import check_number
from ddoq.costs.stages import training_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm, SetRecipe
from ddoq.decoding.transform import Transform, check_zca, fit_zca
from ddoq.distillation.shard import Shard, WorkItem, check_budget
from ddoq.distillation.tables import ByBudget, settled
from ddoq.errors import UserError
from ddoq.finite import check_images
from ddoq.labels.targets import Targets
from ddoq.networks import draw_network
from ddoq.networks.convnet import parse_convnet
from ddoq.networks.features import classifier_of
from ddoq.objectives.kernel_regression import centred_one_hot, margin_loss
from ddoq.optimisation.learned import Learned, OptimizerName, optimizer_of
from ddoq.optimisation.pools import ResetAtAge, staggered
from ddoq.optimisation.real_images import Init, check_init
from ddoq.optimisation.schedules import cosine_factor
from ddoq.seeding import generator_for
from ddoq.teachers.batches import load_split
from ddoq.trajectories.recording import TrainingImages

_LAST_RATE = 0.1  # of the cosine, as a share of the rate; official repository
_STRATEGY = "flip_color_crop_rotate_translate_cutout"  # of the recipe `frepo`
_MEND = "Lower the learning rate (model.init_args.lr), or raise the ridge (model.init_args.ridge)."


class FRePo(PixelMethod):
    r"""Learn images :math:`S` and labels :math:`Y` on which kernel ridge regression predicts real images.

    .. math::
        \min_{S, Y} \; \mathbb{E}_{\theta, B} \;
        \frac{1}{2 |B|} \sum_{x \in B} \bigl\| \varphi_\theta(x) \Phi_S^\top (\Phi_S \Phi_S^\top + r I)^{-1} Y - t_x \bigr\|^2
        - \frac{1}{n} \sum_j \min \bigl( y_{j,(1)} - y_{j,(2)}, 1/C \bigr)

    with the features :math:`\varphi_\theta` of a network that is drawn from a pool, and targets :math:`t_x` that are one-hot
    less 1/C. The second term rewards labels with a clear class. After its use a network learns once from the distilled
    images, until it is too old and a fresh one takes its place.

    Source: Y. Zhou, E. Nezhadarya and J. Ba, *Dataset Distillation using Neural Feature Regression*, NeurIPS 2022; constants
    from the official repository yongchao97/FRePo at 9b98c65, of which no code is used.

    Args:
        ipc: Images per class.
        seed: Decides first images, networks and batches.
        arch: The networks of the pool.
        iterations: Steps of images and labels.
        optimizer: Of both: ``lamb`` or ``adam``.
        lr: Rate of both at first; it falls along a cosine to a tenth.
        batch_real: Real images of all classes in a step.
        ridge: Regulariser, as a share of the mean of the kernel's diagonal.
        margin: Weight of the labels' margin.
        flip: Whether mirrored copies of the distilled images join them in the regression; or a table by number of classes
            and images per class. Not where they are of another class.
        zca: Whether images are whitened as a whole after they are normalised; or a table. The matrix travels with the set.
        pool_size: Networks in the pool.
        pool_age: Uses after which a network makes way: the one in which its counter exceeds this.
        lr_net: Rate of the networks' Adam.
        batch_net: The most distilled images that a network learns from at once.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        augmentation: Siamese strategy of the students' training, kinds joined by underscores; ``none`` for none.
    """

    method = "frepo"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        arch: str = "convnet3-doubling-bn",
        iterations: int = 500_000,
        optimizer: OptimizerName = "lamb",
        lr: float = 3e-4,
        batch_real: int = 1024,
        ridge: float = 1e-6,
        margin: float = 1.0,
        flip: ByBudget[bool] = True,
        zca: ByBudget[bool] = False,
        pool_size: int = 10,
        pool_age: int = 100,
        lr_net: float = 3e-4,
        batch_net: int = 500,
        init: Init = "real",
        augmentation: str = _STRATEGY,
    ) -> None:
        super().__init__(ipc, seed)
        self.arch = arch
        self.iterations = iterations
        self.optimizer: OptimizerName = optimizer
        self.lr = lr
        self.batch_real = batch_real
        self.ridge = ridge
        self.margin = margin
        self.flip: bool = settled(flip)
        self.zca: bool = settled(zca)
        self.pool_size = pool_size
        self.pool_age = pool_age
        self.lr_net = lr_net
        self.batch_net = batch_net
        self.init = init
        self.augmentation = augmentation
        self._space: tuple[ImageDataModule, Transform] | None = None

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take few small networks and few real images, too, and no whitening."""
        changes = {"arch": "convnet2-w8-doubling-bn", "batch_real": 8, "pool_size": 2, "zca": False}
        return {**super().tiny(given), **changes}

    @property
    def needs_gradient(self) -> bool:
        """Of pixels and labels."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and networks without features."""
        super().check(data)
        for name in ("iterations", "batch_real", "pool_size", "batch_net"):
            check_number(name, getattr(self, name), at_least=1)
        for name in ("lr", "lr_net"):
            check_number(name, getattr(self, name), above=0)
        for name in ("ridge", "margin", "pool_age"):
            check_number(name, getattr(self, name), at_least=0)
        optimizer_of([torch.zeros(1)], name=self.optimizer, lr=self.lr)
        check_init(self.init)
        if self.init == "real":
            check_budget(data, self.ipc)
        if self.margin > 0 and data.num_classes < 2:
            raise UserError(
                f"The margin of a label lies between two classes, but {data.name} has {data.num_classes}: set margin to 0."
            )
        parse_strategy(self.augmentation)
        if self.zca:
            check_zca(data.image_size)
        network = draw_network(self.arch, data.num_classes, data.image_size, seed=self.seed)
        self._check_rank(classifier_of(network).in_features, data.num_classes * self.ipc)

    def _check_rank(self, features: int, images: int) -> None:
        """Refuse a regression without ridge on more images than there are features."""
        images *= 2 if self.flip else 1
        if self.ridge == 0 and images > features:
            raise UserError(
                f"Without a ridge, regression on {images} images (mirrored ones included) has no unique solution in the "
                f"{features} features of {self.arch}: set ridge above 0, lower ipc, or take a wider network."
            )

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item for all classes: they are regressed on together."""
        return [WorkItem(0, "all", tuple(range(data.num_classes)))]

    @property
    def space(self) -> Transform:
        """Where images are optimised: normalised, and whitened where that is asked for; made once for a dataset."""
        if self._space is None or self._space[0] is not self.data:
            mean, std = self.data.mean, self.data.std
            whole = load_split(self.data.train) if self.zca else None
            space = Transform.normalize(mean, std) if whole is None else fit_zca(whole, std=std)
            self._space = (self.data, space)
        return self._space[1]

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Images are stored as they were optimised; students learn the labels, as the paper's do."""
        overrides = {} if self.augmentation == _STRATEGY else {"siamese": self.augmentation}
        return SetForm(transform=self.space, recipe=SetRecipe("frepo", overrides))

    def facts(self) -> dict[str, Any]:
        """Return what the authors' students are, and what one-hot labels were made into the first learned ones by."""
        scale = label_scale(self.data.num_classes)
        facts: dict[str, Any] = {
            "labels": {"subtracted": 1 / self.data.num_classes, "divided_by": scale}
        }
        if self.arch.startswith("convnet"):
            facts["students"] = parse_convnet(self.arch).without_norm()
        return facts

    def distill(self, item: WorkItem) -> Shard:
        """Optimise images and labels of all classes."""
        classes = torch.arange(self.data.num_classes).repeat_interleave(self.ipc)
        real = TrainingImages(self.data.train, self.space.to(self.device), self.device)
        learned, pool = self.start(classes), self.pool()
        losses = regress(
            learned,
            pool,
            lambda step: self.step(step, learned, pool, *self.real_batch(step, real)),
            steps=self.iterations,
            device=self.device,
            checkpoint=self.checkpoint(item),
            what=f"{self.method}: {item.name}",
            mend=_MEND,
        )
        return self._shard(classes, learned, losses)

    def start(self, classes: Tensor) -> Learned:
        """Make images and labels that the optimisation starts from.

        Args:
            classes: Of the distilled images, int64 ``(n,)``, in order.
        """
        firsts = []
        for label in range(self.data.num_classes):
            real = self.real_images(label, self.space)
            firsts.append(real.initial(self.ipc, self.init, self.generator("init", label)))
        targets = first_labels(classes, self.data.num_classes).to(self.device)
        return Learned(
            {"images": torch.cat(firsts), "targets": targets},
            partial(optimizer_of, name=self.optimizer, lr=self.lr),
            lambda step: _LAST_RATE + (1 - _LAST_RATE) * cosine_factor(step, self.iterations),
        )

    def pool(self) -> ResetAtAge:
        """Make the pool of the first step: fresh networks whose counters alone are staggered."""

        def draw(number: int) -> nn.Module:
            keys = (self.method, "network", number)
            size = self.data.image_size
            drawn = draw_network(self.arch, self.data.num_classes, size, *keys, seed=self.seed)
            return drawn.to(self.device)

        adam = partial(torch.optim.Adam, lr=self.lr_net)
        ages = staggered(self.pool_size, self.pool_age)
        return ResetAtAge(draw, adam, ages=ages, limit=self.pool_age)

    def real_batch(self, step: int, real: TrainingImages) -> tuple[Tensor, Tensor]:
        """Draw real images of all classes, float ``(b, 3, h, w)``, and their targets ``(b, C)``."""
        order = torch.randperm(len(real), generator=self.generator("real", step))
        images, labels = real.batch(order[: self.batch_real])
        return images, centred_one_hot(labels, self.data.num_classes)

    def step(
        self, step: int, learned: Learned, pool: ResetAtAge, real: Tensor, answers: Tensor
    ) -> None:
        """Take a step of images and labels, and let the network that it was taken under learn."""
        place = pool.pick(self.generator("pool", step))
        images, targets = learned.tensors["images"], learned.tensors["targets"]
        network = pool.members[place].network
        loss = regression_gap(network, real, answers, images, targets, self.ridge, flip=self.flip)
        if self.margin:
            loss = loss + self.margin * margin_loss(targets)
        learned.descend(loss, step)
        images, targets = images.detach(), targets.detach()
        if len(images) > self.batch_net:
            order = torch.randperm(len(images), generator=self.generator("net", step))
            rows = order[: self.batch_net].to(images.device)
            images, targets = images[rows], targets[rows]
        pool.use(place, images, targets)

    def generator(self, *keys: int | str) -> torch.Generator:
        """Make the generator of one draw."""
        return generator_for(self.seed, self.method, *keys)

    def _shard(self, classes: Tensor, learned: Learned, losses: list[float]) -> Shard:
        """Make the shard of all classes, with the losses in the record."""
        images, targets = (learned.tensors[name].detach() for name in ("images", "targets"))
        for name, tensor in (("images", images), ("labels", targets)):
            check_images(tensor, f"The distilled {name}", f"They have diverged. {_MEND}")
        targets = targets.float().cpu()
        info = {
            "losses": losses,
            "own_class": float((targets.argmax(dim=1) == classes).float().mean()),
        }
        return Shard(images.float().cpu(), classes, info=info, targets=Targets(targets, "vectors"))

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return how the loss went, and the share of labels that are largest at the class that they started from."""
        (info,) = infos
        return {"loss": info["losses"][-1], **info}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Regress in every step, and train a network of the pool after it; a pass is an image, mirrored ones too."""
        network = draw_network(self.arch, sizes.num_classes, sizes.image_size, seed=self.seed)
        count = sizes.num_classes * self.ipc
        size = Regression(
            steps=self.iterations,
            real=min(self.batch_real, sizes.train_images),
            learned=count,
            shown=count * (2 if self.flip else 1),
            width=sizes.num_classes,
            kept=3 * self.pool_size,
        )
        learnt = min(count, self.batch_net)
        gap = partial(regression_gap, ridge=1.0, flip=self.flip)
        return [
            regression_stage(self.arch, network, gap, size, sizes),
            training_stage(
                "train the pool",
                self.arch,
                network,
                sizes,
                self.iterations * learnt,
                learnt,
                moments=2,
                note=f"after every step, {self.pool_size} networks",
            ),
        ]
