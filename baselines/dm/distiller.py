"""Synthetic images whose mean features under random networks are those of real ones."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from baselines.matching import feature_gap
from baselines.separable import SeparableMatching
from ddoq.augmentation.siamese import FULL_STRATEGY
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.distillation.tables import ByBudget
from ddoq.networks import penultimate
from ddoq.objectives.features import mean_difference
from ddoq.optimisation.real_images import Init

LR = {1: 1.0, 100: 10.0}  # by images per class; official repository


class DM(SeparableMatching):
    r"""Match, class by class, the mean feature of synthetic images with that of real ones.

    .. math::
        \min_S \; \mathbb{E}_{\theta, \omega} \Bigl\|
        \frac{1}{|B_c|} \sum_{x \in B_c} \varphi_\theta(A_\omega(x)) - \frac{1}{|S_c|} \sum_{s \in S_c} \varphi_\theta(A_\omega(s)) \Bigr\|^2

    with a network :math:`\theta` of random weights and a Siamese augmentation :math:`\omega` that are drawn anew in every
    iteration. The networks are never trained, so that classes are independent of one another: one class is a work item.

    Source: B. Zhao and H. Bilen, *Dataset Condensation with Distribution Matching*, WACV 2023; constants from the
    official repository VICO-UoE/DatasetCondensation at 53f63a6.

    Args:
        ipc: Images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; the paper takes ``convnet3`` at 32 pixels and ``convnet4`` at 64.
        iterations: Steps, each with a network of its own.
        lr: Step size of the pixels; or a table by images per class.
        momentum: Of the pixels' gradient descent.
        batch_real: Real images of a class in a step.
        init: ``real``: images start as real ones; ``noise``: as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    method = "dm"
    layer_steps = 10
    latent_rates = (10.0, 0.01)

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        arch: str = "convnet3",
        iterations: int = 20_000,
        lr: ByBudget[float] = LR,
        momentum: float = 0.5,
        batch_real: int = 256,
        init: Init = "real",
        augmentation: str = FULL_STRATEGY,
    ) -> None:
        super().__init__(ipc, seed, arch, iterations, lr, momentum, batch_real, init, augmentation)

    def distill(self, item: WorkItem) -> Shard:
        """Optimise the images of one class."""
        return self.optimise(item, mean_gap)

    @torch.no_grad()
    def rows(self, network: nn.Module, real: Tensor, label: int) -> Tensor:
        """Return the features of real images."""
        return penultimate(network, real)

    def compare(
        self, network: nn.Module, synthetic: Tensor, label: int
    ) -> Callable[[Tensor], Tensor]:
        """Compare a mean feature with that of synthetic images."""
        features = penultimate(network, synthetic)
        return lambda mean: mean_difference(mean[None], features)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Show a batch of real and all synthetic images of a class to a network, in every iteration."""
        return [self.matching_stage("match features", mean_gap, sizes, self.iterations)]


def mean_gap(network: nn.Module, real: Tensor, synthetic: Tensor) -> Tensor:
    """Return the squared distance of two mean features, of which the real one is not differentiated.

    Args:
        network: A classifier; features are what its last layer sees.
        real: Float ``(m, 3, h, w)``.
        synthetic: Float ``(n, 3, h, w)``.
    """
    return feature_gap(network, real, synthetic, mean_difference)
