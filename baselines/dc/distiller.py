"""Synthetic images that pull a network's weights where real ones pull them."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.matching import restore, state_of
from baselines.separable import SeparableMatching
from ddoq.augmentation.siamese import FULL_STRATEGY, parse_strategy
from ddoq.costs.stages import training_stage
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.distillation.tables import ByBudget, look_up
from ddoq.errors import UserError
from ddoq.networks import draw_network
from ddoq.objectives.functional import (
    gradients_of,
    sample_gradients,
    split_weights,
)
from ddoq.objectives.gradients import Distance, gradient_distance
from ddoq.optimisation.learning import learn
from ddoq.optimisation.pixels import Parameterisation
from ddoq.optimisation.real_images import Init, RealImages
from ddoq.optimisation.steps import StepLoop

# By images per class: steps of the images under one network, and epochs that it learns from them in between.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


class DC(SeparableMatching):
    r"""Match, class by class, the gradient of the loss on synthetic images with that on real ones.

    .. math::
        \min_S \; \mathbb{E}_{\theta_0} \sum_t \sum_c D\bigl(
        \nabla_\theta \ell(A_\omega(B_c), c; \theta_t), \nabla_\theta \ell(A_\omega(S_c), c; \theta_t) \bigr)

    An iteration draws a network :math:`\theta_0`. After each step of the images it learns from all of them for some
    epochs, and the next step matches gradients there. So classes depend on one another and are done in step: every rank
    trains the same network on the images of all ranks, and matches the gradients of its own classes.

    With the Siamese augmentation :math:`\omega` this is DSA, with ``augmentation: none`` DC.

    Source: B. Zhao, K. R. Mopuri and H. Bilen, *Dataset Condensation with Gradient Matching*, ICLR 2021; B. Zhao and
    H. Bilen, *Dataset Condensation with Differentiable Siamese Augmentation*, ICML 2021; constants from the official
    repository VICO-UoE/DatasetCondensation at 53f63a6.

    Args:
        ipc: Images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; the papers take ``convnet3`` at 32 pixels.
        iterations: Networks that are drawn, one after the other.
        loops: Steps of the images under a network, and epochs of its training after each; or a table of such pairs by
            images per class.
        lr: Step size of the pixels; or a table by images per class.
        momentum: Of the pixels' gradient descent.
        batch_real: Real images of a class in a step.
        lr_net: Step size of the networks' training, plain gradient descent.
        batch_train: Synthetic images a batch of that training.
        distance: ``row-cosine`` (the papers'), ``squared-error``, ``relative-squared-error`` or ``global-cosine``.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    method = "dc"
    latent_rates = (1.0, 0.001)

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        arch: str = "convnet3",
        iterations: int = 1000,
        loops: ByBudget[tuple[int, int]] = LOOPS,
        lr: ByBudget[float] = 0.1,
        momentum: float = 0.5,
        batch_real: int = 256,
        lr_net: float = 0.01,
        batch_train: int = 256,
        distance: str = "row-cosine",
        init: Init = "real",
        augmentation: str = FULL_STRATEGY,
    ) -> None:
        super().__init__(ipc, seed, arch, iterations, lr, momentum, batch_real, init, augmentation)
        self.loops = loops
        self.lr_net = lr_net
        self.batch_train = batch_train
        self.distance = distance

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Train each network for an epoch."""
        return {**super().tiny(given), "loops": [2, 1]}

    @property
    def joint(self) -> bool:
        """Networks learn from the images of all classes."""
        return True

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        gradient_distance(self.distance)
        if min(self._loops(data.num_classes)) < 1:
            raise UserError(f"loops must be two numbers of at least 1, not {self.loops}.")
        if not 0 < self.lr_net < math.inf:
            raise UserError(f"lr_net must be above 0, not {self.lr_net}.")
        if self.batch_train < 1:
            raise UserError(f"batch_train must be at least 1, not {self.batch_train}.")

    def distill_jointly(self, items: Sequence[WorkItem]) -> list[Shard]:
        """Optimise the images of this rank's classes, in step with the other ranks."""
        labels = [item.classes[0] for item in items]
        starts = [self.start(label) for label in labels]
        pixels = [images for _, images in starts]
        real = {label: images for label, (images, _) in zip(labels, starts, strict=True)}
        loop = StepLoop(
            self.iterations,
            state=lambda: [state_of(*start) for start in starts],
            restore=lambda states: _restore(starts, states),
            checkpoint=self.joint_checkpoint(),
            what=self.method,
        )
        for iteration in loop:
            self._iterate(iteration, real, dict(zip(labels, pixels, strict=True)))
            loop.loss = torch.stack([images.loss for images in pixels]).mean() if pixels else None
        return [self.shard(label, images) for label, images in zip(labels, pixels, strict=True)]

    def _iterate(
        self, iteration: int, real: dict[int, RealImages], pixels: dict[int, Parameterisation]
    ) -> None:
        """Step and train under one network."""
        steps, epochs = self._loops(self.data.num_classes)
        network = self.network(iteration)
        for step in range(steps):
            for label, images in pixels.items():
                gap = partial(self._gap, label=label)
                keys = (iteration, step, label)
                images.descend(self.loss_of(network, gap, real[label], images.images, *keys))
            if step + 1 < steps:
                gathered = self.all_gather_items([images.images for images in pixels.values()])
                self._train(network, torch.cat(gathered), epochs, iteration, step)

    def descents(self, num_classes: int) -> int:
        """Count the steps under every network."""
        return self.iterations * self._loops(num_classes)[0]

    def rows(self, network: nn.Module, real: Tensor, label: int) -> Tensor:
        """Return the gradients of the network's weights on single real images."""
        labels = torch.full((len(real),), label, device=real.device)
        return sample_gradients(network, real, labels)

    def compare(
        self, network: nn.Module, synthetic: Tensor, label: int
    ) -> Callable[[Tensor], Tensor]:
        """Compare a mean gradient with that on synthetic images."""
        weights = dict(network.named_parameters())
        labels = torch.full((len(synthetic),), label, device=synthetic.device)
        loss = F.cross_entropy(network(synthetic), labels)
        gradients = gradients_of(loss, weights, differentiable=True)
        distance = gradient_distance(self.distance)
        return lambda mean: distance(split_weights(mean, weights), gradients)

    def _loops(self, num_classes: int) -> tuple[int, int]:
        """Return steps under a network, and epochs of its training after each."""
        return look_up(self.loops, num_classes, self.ipc, "loops")

    def _gap(self, network: nn.Module, real: Tensor, synthetic: Tensor, *, label: int) -> Tensor:
        return gradient_gap(network, real, synthetic, label, gradient_distance(self.distance))

    def _train(self, network: nn.Module, images: Tensor, epochs: int, *keys: int) -> None:
        """Let a network learn from the synthetic images of all classes, each augmented by itself."""
        classes = self.data.num_classes
        labels = torch.arange(classes, device=images.device)
        learn(
            network,
            images,
            labels.repeat_interleave(len(images) // classes),
            epochs=epochs,
            lr=self.lr_net,
            batch_size=self.batch_train,
            kinds=parse_strategy(self.augmentation),
            generator=lambda what, epoch: self.generator(what, *keys, epoch),
        )

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Match gradients in every step, and train networks on all synthetic images in between."""
        steps, epochs = self._loops(sizes.num_classes)
        gap = partial(self._gap, label=0)
        stages = [self.matching_stage("match gradients", gap, sizes, self.iterations * steps)]
        if steps > 1:
            images = sizes.num_classes * self.ipc
            stages.append(
                training_stage(
                    "train networks",
                    self.arch,
                    draw_network(self.arch, sizes.num_classes, sizes.image_size, seed=self.seed),
                    sizes,
                    self.iterations * (steps - 1) * epochs * images,
                    min(self.batch_train, images),
                    moments=0,
                )
            )
        return stages


def _restore(
    starts: Sequence[tuple[RealImages, Parameterisation]], states: Sequence[Mapping[str, Any]]
) -> None:
    for (real, images), state in zip(starts, states, strict=True):
        restore(real, images, state)


def gradient_gap(
    network: nn.Module, real: Tensor, synthetic: Tensor, label: int, distance: Distance
) -> Tensor:
    """Return the distance of two gradients of a network's weights, of which the real one is not differentiated.

    Args:
        network: A classifier.
        real: Float ``(m, 3, h, w)``, images of one class.
        synthetic: Float ``(n, 3, h, w)``, images of the same class.
        label: The class.
        distance: Between gradients by name.
    """
    weights = dict(network.named_parameters())

    def gradients(images: Tensor, differentiable: bool) -> dict[str, Tensor]:
        labels = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(network(images), labels)
        return gradients_of(loss, weights, differentiable=differentiable)

    return distance(gradients(real, False), gradients(synthetic, True))
