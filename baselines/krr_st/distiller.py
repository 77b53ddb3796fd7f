"""Images and vectors from which ridge regression in the features of networks predicts a self-supervised network's."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.regression import Regression, regress, regression_stage
from ddoq.augmentation.shifts import draw_shifts, shift_and_flip
from ddoq.bounds import check_number
from ddoq.costs.stages import forward_stage, training_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.decoding.form import SetForm
from ddoq.decoding.transform import Transform
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.finite import check_images
from ddoq.images import to_float
from ddoq.labels.targets import Targets
from ddoq.networks import draw_network, penultimate
from ddoq.objectives.kernel_regression import predict
from ddoq.optimisation.learned import Learned
from ddoq.optimisation.pools import ResetAtAge
from ddoq.seeding import generator_for
from ddoq.self_supervised import BarlowTwins
from ddoq.self_supervised.barlow_twins import features_of
from ddoq.teachers.batches import DeviceSplit

_LAST_RATE = 1e-3  # what the rate falls to along a line, as a share of it; official repository
_MEND = "Lower the learning rates (model.init_args.lr and lr_net)."


class KRRST(Distiller):
    r"""Learn images :math:`S` and vectors :math:`Y` on which kernel ridge regression predicts what a network answers.

    .. math::
        \min_{S, Y} \; \mathbb{E}_{\theta, B} \;
        \frac{1}{|B| d} \sum_{x \in B} \bigl\| \psi_\theta(x) \Psi_S^\top (\Psi_S \Psi_S^\top + r I)^{-1} Y - g(x) \bigr\|^2,
        \quad r = \lambda \, \mathrm{tr}(\Psi_S \Psi_S^\top)

    with the features :math:`\psi_\theta` of a network that is drawn from a pool, and a constant beside them; :math:`g` is a
    network that has learned from all images without labels. After its use a network of the pool learns once from the
    distilled images, until it is too old and a fresh one takes its place. No class label is read, and the set has none:
    ``ipc`` times the number of classes is how many images there are, and a folder without classes counts as one class.
    Evaluation is by transfer, see ``evaluation.transfer``.

    Source: D. B. Lee, S. Lee, J. Ko, K. Kawaguchi, J. Lee and S. J. Hwang, *Self-Supervised Dataset Distillation for
    Transfer Learning*, ICLR 2024; constants from the official repository db-Lee/selfsup_dd at 73bae33, of which no code
    is used.

    Args:
        ipc: Images in all, divided by the number of classes.
        target_model: :math:`g`, trained on the dataset without labels.
        seed: Decides first images, networks, batches and augmentation.
        arch: The networks of the pool; batch norm takes what it remembers where features are asked for.
        iterations: Steps of images and vectors; 0 leaves real images with the vectors that :math:`g` gives them.
        lr: AdamW's rate of both at first, without decay; it falls along a line to a thousandth.
        batch_real: Real images in a step.
        ridge: :math:`\lambda`, as a share of the sum of the kernel's diagonal.
        pool_size: Networks in the pool.
        pool_age: Steps after which a network makes way; the first ones have a random number of them behind them.
        lr_net: Rate of the networks' gradient descent.
        momentum_net: Of that.
        weight_decay_net: Of that.
        crop_pad: Largest shift of the random crops of real images in pixels; an eighth of the side where None.
        hflip: Whether half of the real images are mirrored.
        faithful: Whether a fresh network takes over the counter of the one before, as in the released code: once a
            network has made way, its place holds networks that never learn.
    """

    method = "krr_st"

    def __init__(
        self,
        ipc: int,
        target_model: BarlowTwins,
        seed: int = 0,
        arch: str = "convnet3-doubling-bn",
        iterations: int = 160_000,
        lr: float = 1e-4,
        batch_real: int = 1024,
        ridge: float = 1e-6,
        pool_size: int = 10,
        pool_age: int = 1000,
        lr_net: float = 0.1,
        momentum_net: float = 0.9,
        weight_decay_net: float = 1e-3,
        crop_pad: int | None = None,
        hflip: bool = True,
        faithful: bool = False,
    ) -> None:
        super().__init__(ipc, seed)
        self.target_model = target_model
        self.arch = arch
        self.iterations = iterations
        self.lr = lr
        self.batch_real = batch_real
        self.ridge = ridge
        self.pool_size = pool_size
        self.pool_age = pool_age
        self.lr_net = lr_net
        self.momentum_net = momentum_net
        self.weight_decay_net = weight_decay_net
        self.crop_pad = crop_pad
        self.hflip = hflip
        self.faithful = faithful

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take few small networks, which are young, and few real images, too."""
        network = {"arch": "convnet2-w8-doubling-bn", "pool_size": 2, "pool_age": 3}
        return {**super().tiny(given), **network, "batch_real": 8}

    @property
    def needs_gradient(self) -> bool:
        """Of pixels and vectors."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and budgets that the dataset cannot start."""
        super().check(data)
        for name in ("batch_real", "pool_size"):
            check_number(name, getattr(self, name), at_least=1)
        check_number("pool_age", self.pool_age, at_least=2)
        check_number("iterations", self.iterations, at_least=0)
        for name in ("lr", "lr_net"):
            check_number(name, getattr(self, name), above=0)
        for name in ("ridge", "weight_decay_net"):
            check_number(name, getattr(self, name), at_least=0)
        check_number("momentum_net", self.momentum_net, at_least=0, below=1)
        if self.crop_pad is not None:
            check_number("crop_pad", self.crop_pad, at_least=0, below=data.image_size)
        count = self._count(data.num_classes)
        if count > len(data.train):
            raise UserError(
                f"ipc {self.ipc} asks for {count} images (times {data.num_classes} classes), but {data.name} has "
                f"{len(data.train)} training images to start from: lower model.init_args.ipc or raise the limit."
            )
        if count < 2:
            raise UserError(
                f"One image teaches no network, whose batch norm needs two: raise model.init_args.ipc (now {self.ipc})."
            )
        draw_network(self.arch, 1, data.image_size, seed=self.seed)

    def _count(self, num_classes: int) -> int:
        return self.ipc * num_classes

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item: all images are regressed on together."""
        return [WorkItem(0, "all", tuple(range(data.num_classes)))]

    def control(self) -> Self:
        """Return the same without its optimisation: real images with the vectors of the target model."""
        return self.with_arguments(iterations=0)

    def _space(self) -> Transform:
        return Transform.normalize(self.data.mean, self.data.std)

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Images are stored as they were optimised."""
        return SetForm(transform=self._space())

    def distill(self, item: WorkItem) -> Shard:
        """Optimise all images and vectors."""
        real = DeviceSplit(self.data.train, self.device)
        target = self.target_model.network(self.device)
        learned = self.start(real, target)
        if self.iterations == 0:
            return self._shard(learned, [])
        pool = self.pool(int(learned.tensors["targets"].shape[1]))

        def take(step: int) -> None:
            if step == 0:
                pool.warm_up(lambda *_: _values(learned))
            self.step(step, learned, pool, *self.real_batch(step, real, target))

        losses = regress(
            learned,
            pool,
            take,
            steps=self.iterations,
            device=self.device,
            checkpoint=self.checkpoint(item),
            what=f"{self.method}: {item.name}",
            mend=_MEND,
        )
        return self._shard(learned, losses)

    def start(self, real: DeviceSplit, target: nn.Module) -> Learned:
        """Make the images and vectors that the optimisation starts from, drawn without a look at labels.

        Args:
            real: The training images.
            target: The target model.
        """
        order = torch.randperm(len(real), generator=self.generator("init"))
        stored = real.take(order[: self._count(self.data.num_classes)])
        images = self._space().to(self.device).apply(to_float(stored))
        return Learned(
            {"images": images, "targets": features_of(target, images)},
            partial(torch.optim.AdamW, lr=self.lr, weight_decay=0.0),
            lambda step: 1 - (1 - _LAST_RATE) * step / self.iterations,
        )

    def pool(self, width: int) -> ResetAtAge:
        """Make the pool of the first step, whose networks are yet to learn.

        Args:
            width: Numbers of a vector.
        """

        def draw(number: int) -> nn.Module:
            keys = (self.method, "network", number)
            drawn = draw_network(self.arch, width, self.data.image_size, *keys, seed=self.seed)
            return drawn.to(self.device)

        descent = partial(
            torch.optim.SGD,
            lr=self.lr_net,
            momentum=self.momentum_net,
            weight_decay=self.weight_decay_net,
        )
        generator = self.generator("ages")
        ages = torch.randint(1, self.pool_age, (self.pool_size,), generator=generator).tolist()
        return ResetAtAge(draw, descent, ages=ages, limit=self.pool_age - 1, faithful=self.faithful)

    def real_batch(self, step: int, real: DeviceSplit, target: nn.Module) -> tuple[Tensor, Tensor]:
        """Draw augmented real images, float ``(b, 3, h, w)``, and the target model's answers ``(b, d)``."""
        order = torch.randperm(len(real), generator=self.generator("real", step))
        stored = real.take(order[: self.batch_real])
        pad = self.data.image_size // 8 if self.crop_pad is None else self.crop_pad
        shifts = draw_shifts(len(stored), pad, self.generator("shift", step)).to(self.device)
        flips = torch.rand(len(stored), generator=self.generator("flip", step)) < 0.5 * self.hflip
        seen = shift_and_flip(stored, shifts, flips.to(self.device), pad).contiguous()
        images = self._space().to(self.device).apply(to_float(seen))
        return images, features_of(target, images)

    def step(
        self, step: int, learned: Learned, pool: ResetAtAge, real: Tensor, answers: Tensor
    ) -> None:
        """Take a step of images and vectors, and let the network that it was taken under learn."""
        place = pool.pick(self.generator("pool", step))
        images, targets = learned.tensors["images"], learned.tensors["targets"]
        network = pool.members[place].network
        learned.descend(prediction_error(network, real, answers, images, targets, self.ridge), step)
        pool.use(place, *_values(learned))

    def generator(self, *keys: int | str) -> torch.Generator:
        """Make the generator of one draw."""
        return generator_for(self.seed, self.method, *keys)

    def _shard(self, learned: Learned, losses: list[float]) -> Shard:
        """Make the shard of all images, without labels, with the losses in the record."""
        images, targets = _values(learned)
        for name, tensor in (("images", images), ("vectors", targets)):
            check_images(tensor, f"The distilled {name}", f"They have diverged. {_MEND}")
        vectors = Targets(targets.float().cpu(), "vectors")
        return Shard(images.float().cpu(), None, info={"losses": losses}, targets=vectors)

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return how the loss went."""
        losses = infos[0]["losses"]
        return {"losses": losses, **({"loss": losses[-1]} if losses else {})}

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Answer and regress in every step, and train a network of the pool before and after; a pass is an image."""
        width = self.target_model.count_features(sizes.image_size)
        network = draw_network(self.arch, width, sizes.image_size, seed=self.seed)
        count = self._count(sizes.num_classes)
        size = Regression(
            steps=self.iterations,
            real=min(self.batch_real, sizes.train_images),
            learned=count,
            shown=count,
            width=width,
            kept=2 * self.pool_size,
        )
        target = self.target_model.untrained(sizes.image_size)
        asked = size.steps * size.real + count
        gap = partial(prediction_error, ridge=1.0)
        return [
            forward_stage("ask the target model", "target model", target, sizes, asked),
            regression_stage(self.arch, network, gap, size, sizes),
            training_stage(
                "train the pool",
                self.arch,
                network,
                sizes,
                (self.iterations + self.pool_size * self.pool_age // 2) * count,
                count,
                moments=1,
                note=f"after every step, {self.pool_size} networks; and before the first one",
            ),
        ]


def prediction_error(
    network: nn.Module,
    real: Tensor,
    answers: Tensor,
    images: Tensor,
    targets: Tensor,
    ridge: float,
) -> Tensor:
    """Return the mean squared error of predictions for real images, whose features are not differentiated.

    Args:
        network: Features are what its last layer sees; a constant joins them.
        real: Float ``(m, 3, h, w)``.
        answers: What they shall be predicted as, float ``(m, d)``.
        images: Distilled, float ``(n, 3, h, w)``.
        targets: Their vectors, float ``(n, d)``.
        ridge: See :func:`ddoq.objectives.kernel_regression.predict`.

    Returns:
        A scalar.

    Raises:
        NotFiniteError: If the regression has no unique solution.
    """
    with torch.no_grad():
        features = penultimate(network, real)
    support = penultimate(network, images)
    predicted = predict(features, support, targets, ridge=ridge, share="trace", constant=True)
    return F.mse_loss(predicted, answers.double())


def _values(learned: Learned) -> tuple[Tensor, Tensor]:
    """Return images and vectors as they are now, without gradient."""
    return learned.tensors["images"].detach(), learned.tensors["targets"].detach()
