"""Grids whose cells have the mean features of real images under partly trained networks, which also classify them."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.grid_matching import GridMatching
from ddoq.augmentation.siamese import (
    FULL_STRATEGY,
    augment_siamese,
    draw_siamese,
    parse_strategy,
)
from ddoq.costs.memory import weight_bytes
from ddoq.costs.stages import training_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.distillation.tables import ByBudget, look_up
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.networks import draw_network, penultimate
from ddoq.networks.features import captured_features
from ddoq.objectives.features import mean_difference
from ddoq.optimisation.pixels import Parameterisation
from ddoq.optimisation.pools import FirstInFirstOut
from ddoq.optimisation.real_images import Init, RealImages
from ddoq.optimisation.steps import StepLoop

# By number of classes and images per class, those of CIFAR-10, CIFAR-100 and Tiny-ImageNet; official repository.
CE_WEIGHT = {
    1: {1: 0.5, 10: 0.5, 50: 0.1},
    100: {1: 0.5, 10: 0.1, 50: 0.1},
    200: {1: 0.5, 10: 0.5, 50: 0.8},
}
NET_STEPS = {1: {1: 10}, 100: {1: 10, 10: 50, 50: 10}, 200: {1: 10}}
INTERVAL = {1: 5, 10: 30}  # by images per class; official repository
BATCH_REAL = {1: 5000, 10: 256}  # likewise


class IDM(GridMatching):
    r"""Match, class by class, mean features under networks of all ages, and have these recognise the images.

    .. math::
        \min_S \; \mathbb{E}_{\theta, \omega} \Bigl\|
        \frac{1}{|B_c|} \sum_{x \in B_c} \varphi_\theta(A_\omega(x)) - \frac{1}{|S_c|} \sum_{s \in S_c} \varphi_\theta(A_\omega(s)) \Bigr\|^2
        + \lambda \, a_\theta \, \frac{1}{|S_c|} \sum_{s \in S_c} \ell(A_\omega(s), c; \theta)

    with the cells :math:`S_c` of the grids of a class, enlarged, and a network :math:`\theta` that is drawn for every
    class from a pool; :math:`a_\theta` is its accuracy on the real images that it has learnt from, in percent. A fresh
    network joins the pool at intervals and the oldest leaves it; after every iteration some networks learn from real
    images. So the pool depends on real images alone: every rank trains the same one and matches its own classes.

    Source: G. Zhao, G. Li, Y. Qin and Y. Yu, *Improved Distribution Matching for Dataset Condensation*, CVPR 2023;
    constants from the official repository uitrbn/IDM at fe23bbc.

    Args:
        ipc: Stored images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; the paper takes ``convnet3`` at 32 pixels.
        iterations: Each with a step of every class.
        lr: Step size of the pixels; or a table by images per class.
        momentum: Of the pixels' gradient descent. It goes on moving a class while the others take their steps.
        batch_real: Real images of a class in a step; or a table by images per class.
        ce_weight: :math:`\lambda`, of the loss of classification; or a table by classes and images per class.
        pool_start: Networks in the pool at first.
        pool_interval: Iterations between two that join; or a table by images per class.
        pool_size: The most that the pool holds.
        nets_trained: Networks that learn after every iteration.
        net_steps: Steps that each of them takes; or a table by classes and images per class.
        net_batch: Real images, of all classes, in each of these.
        lr_net: Step size of the networks' training.
        momentum_net: Of that.
        weight_decay_net: Of that.
        factor: Small images along a side of a stored one.
        init: ``real``: cells start as real images; ``noise``: pixels start as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    method = "idm"
    layer_steps = 10
    latent_rates = (10.0, 0.01)  # those of DM

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        arch: str = "convnet3",
        iterations: int = 20_000,
        lr: ByBudget[float] = 0.2,
        momentum: float = 0.5,
        batch_real: ByBudget[int] = BATCH_REAL,
        ce_weight: ByBudget[float] = CE_WEIGHT,
        pool_start: int = 3,
        pool_interval: ByBudget[int] = INTERVAL,
        pool_size: int = 100,
        nets_trained: int = 2,
        net_steps: ByBudget[int] = NET_STEPS,
        net_batch: int = 256,
        lr_net: float = 0.01,
        momentum_net: float = 0.9,
        weight_decay_net: float = 0.0005,
        factor: int = 2,
        init: Init = "real",
        augmentation: str = FULL_STRATEGY,
    ) -> None:
        super().__init__(
            ipc, seed, arch, iterations, lr, momentum, batch_real, factor, init, augmentation
        )
        self.ce_weight = ce_weight
        self.pool_start = pool_start
        self.pool_interval = pool_interval
        self.pool_size = pool_size
        self.nets_trained = nets_trained
        self.net_steps = net_steps
        self.net_batch = net_batch
        self.lr_net = lr_net
        self.momentum_net = momentum_net
        self.weight_decay_net = weight_decay_net

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Let networks take a single step."""
        return {**super().tiny(given), "net_steps": 1, "net_batch": 8}

    @property
    def joint(self) -> bool:
        """All classes meet the same networks, which every rank trains once."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        interval, steps, weight = self._budgeted(data.num_classes)
        counts = {
            "pool_start": self.pool_start,
            "pool_interval": interval,
            "nets_trained": self.nets_trained,
            "net_steps": steps,
            "net_batch": self.net_batch,
        }
        for name, value in counts.items():
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}.")
        if self.pool_size < self.pool_start:
            raise UserError(
                f"pool_size must be at least pool_start, which is {self.pool_start}, not {self.pool_size}."
            )
        if not 0 < self.lr_net < math.inf:
            raise UserError(f"lr_net must be above 0, not {self.lr_net}.")
        if not 0 <= self.momentum_net < 1:
            raise UserError(f"momentum_net must be in [0, 1), not {self.momentum_net}.")
        for name, number in (("ce_weight", weight), ("weight_decay_net", self.weight_decay_net)):
            if not 0 <= number < math.inf:
                raise UserError(f"{name} must be at least 0, not {number}.")

    def _budgeted(self, num_classes: int) -> tuple[int, int, float]:
        """Return the interval of the pool, the steps of a network and the weight of classification."""
        return (
            look_up(self.pool_interval, num_classes, self.ipc, "pool_interval"),
            look_up(self.net_steps, num_classes, self.ipc, "net_steps"),
            look_up(self.ce_weight, num_classes, self.ipc, "ce_weight"),
        )

    def pool(self) -> FirstInFirstOut:
        """Make the pool of the first iteration."""
        interval, _, _ = self._budgeted(self.data.num_classes)
        return FirstInFirstOut(
            self.network,
            start=self.pool_start,
            interval=interval,
            size=self.pool_size,
            lr=self.lr_net,
            momentum=self.momentum_net,
            weight_decay=self.weight_decay_net,
        )

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        """Optimise the images of this rank's classes under the pool that all ranks train alike."""
        labels = [item.classes[0] for item in items]
        starts = [self.start(label) for label in labels]
        pixels = [images for _, images in starts]
        pool = self.pool()
        loop = StepLoop(
            self.iterations,
            state=lambda: _states(items, pixels, pool),
            restore=lambda states: self._restore(states, pixels, pool),
            checkpoint=self.joint_checkpoint(),
            what=self.method,
        )
        for iteration in loop:
            pool.advance(iteration)
            for label, (real, images) in zip(labels, starts, strict=True):
                self._step(pool, real, images, iteration, label)
            self._train(pool, iteration)
            loop.loss = torch.stack([images.loss for images in pixels]).mean() if pixels else None
        accuracy = pool.accuracy()
        shards = [self.shard(label, images) for label, images in zip(labels, pixels, strict=True)]
        for shard in shards:
            shard.info["pool_accuracy"] = accuracy
        return shards

    def _step(
        self,
        pool: FirstInFirstOut,
        real: RealImages,
        images: Parameterisation,
        iteration: int,
        label: int,
    ) -> None:
        """Take the step of a class, and those of its momentum during the steps of the others."""
        (member,) = pool.pick(1, self.generator("pick", iteration, label))
        batch, cells = self.pair(real, images.images, iteration, label)
        _, _, ce_weight = self._budgeted(self.data.num_classes)
        weight = ce_weight * 100 * member.accuracy  # in percent, as the official code has it
        images.descend(recognised_gap(member.network, batch, cells, label=label, weight=weight))
        images.coast(self.data.num_classes - 1)

    def _train(self, pool: FirstInFirstOut, iteration: int) -> None:
        """Let some networks of the pool learn from real images of all classes."""
        _, steps, _ = self._budgeted(self.data.num_classes)
        for member in pool.pick(self.nets_trained, self.generator("train", iteration)):
            for step in range(steps):
                member.learn(*self._real_batch(iteration, member.number, step))

    def _real_batch(self, *keys: int) -> tuple[Tensor, Tensor]:
        """Draw real images of all classes, each augmented by itself, and their labels."""
        train = self.data.train
        order = torch.randperm(len(train), generator=self.generator("batch", *keys))
        positions = order[: self.net_batch]
        stored = train.load(positions.tolist()).to(self.device)
        images = self._transform().to(self.device).apply(to_float(stored))
        kinds = parse_strategy(self.augmentation)
        if kinds:
            height, width = images.shape[-2:]
            generator = self.generator("augment", *keys)
            drawn = draw_siamese(len(images), (height, width), kinds, generator)
            images = augment_siamese(images, drawn.to(self.device))
        return images, train.labels[positions].to(self.device)

    def _restore(
        self,
        states: Sequence[Mapping[str, Any]],
        pixels: Sequence[Parameterisation],
        pool: FirstInFirstOut,
    ) -> None:
        """Go on from checkpoints; the pool is in that of the first item, on whichever rank."""
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for images, state in zip(pixels, states, strict=True):
            images.restore(state["pixels"])
            for part, kept in zip(parts, state.get("pool", (torch.empty(0),) * 2), strict=True):
                part.append(kept)
        counts, values = (self.all_gather_items(part)[0] for part in parts)
        pool.restore(counts, values)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Match features in every iteration, and train networks of the pool after it."""
        _, steps, _ = self._budgeted(sizes.num_classes)
        network = draw_network(self.arch, sizes.num_classes, sizes.image_size, seed=self.seed)
        gap = partial(recognised_gap, label=0, weight=1.0)
        batch = min(self.net_batch, sizes.train_images)
        return [
            self.matching_stage("match features", gap, sizes, self.iterations),
            training_stage(
                "train the pool",
                self.arch,
                network,
                sizes,
                self.iterations * self.nets_trained * steps * batch,
                batch,
                moments=1,
                kept=2 * weight_bytes(network) * self.pool_size,
            ),
        ]

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Add how well the networks of the pool classify real images in the end."""
        return {**super().summarize(infos), "pool_accuracy": infos[0]["pool_accuracy"]}


def _states(
    items: Sequence[WorkItem], pixels: Sequence[Parameterisation], pool: FirstInFirstOut
) -> list[dict[str, Any]]:
    """Return the state of each item; the pool, which is the same everywhere, is kept once, with the first one."""
    return [
        {"pixels": images.state()} | ({"pool": pool.state()} if item.index == 0 else {})
        for item, images in zip(items, pixels, strict=True)
    ]


def recognised_gap(
    network: nn.Module, real: Tensor, synthetic: Tensor, *, label: int, weight: float | Tensor
) -> Tensor:
    """Return the distance of two mean features, plus the weighted cross-entropy of the synthetic images.

    Args:
        network: A classifier; features are what its last layer sees.
        real: Float ``(m, 3, h, w)``, images of one class; not differentiated.
        synthetic: Float ``(n, 3, h, w)``, images of the same class.
        label: The class.
        weight: Of the cross-entropy.
    """
    with torch.no_grad():
        target = penultimate(network, real)
    with captured_features(network) as seen:
        logits = network(synthetic)
    labels = torch.full((len(synthetic),), label, device=synthetic.device)
    return mean_difference(target, seen[-1]) + weight * F.cross_entropy(logits, labels)
