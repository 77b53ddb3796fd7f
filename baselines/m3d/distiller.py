"""Grids whose cells have not only the mean but the distribution of real images under random networks."""

from functools import partial

from baselines.grid_matching import GridMatching
from baselines.matching import Gap, feature_gap
from ddoq.augmentation.siamese import FULL_STRATEGY
from ddoq.costs.workload import Parts, Sizes, Stage
from ddoq.data import ImageDataModule
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.distillation.tables import ByBudget
from ddoq.errors import UserError
from ddoq.objectives.discrepancy import discrepancy
from ddoq.optimisation.real_images import Init

# By images per class. Not of the paper: gradients under the mixture of Gaussians are some 200 times smaller than DM's, so
# that steps are about as long as DM's by its table.
LR = {1: 200.0, 100: 2000.0}


class M3D(GridMatching):
    r"""Minimise, class by class, the maximum mean discrepancy of synthetic and real features.

    .. math::
        \min_S \; \mathbb{E}_{\theta, \omega} \; \mathrm{MMD}^2 \bigl(
        \varphi_\theta(A_\omega(B_c)), \varphi_\theta(A_\omega(S_c)) \bigr)

    with the cells :math:`S_c` of the grids of a class, enlarged, and a network :math:`\theta` of random weights that
    serves for several steps. Under a kernel such as the mixture of Gaussians the discrepancy is 0 only where the two
    distributions agree in all moments; under the linear one it sees means alone, and without a grid that is DM. The
    networks are never trained, so that classes are independent of one another: one class is a work item.

    Source: H. Zhang, S. Li, P. Wang, D. Zeng and S. Ge, *M3D: Dataset Condensation by Minimizing Maximum Mean
    Discrepancy*, AAAI 2024. Its released settings are not known here; see the README for the origin of each default.

    Args:
        ipc: Stored images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; the paper takes ``convnet3`` at 32 pixels.
        iterations: Steps of a class.
        network_steps: Steps under each network.
        lr: Step size of the pixels; or a table by images per class. Kernels differ in scale: ``linear`` wants DM's.
        momentum: Of the pixels' gradient descent.
        batch_real: Real images of a class in a step.
        kernel: ``gaussian-mixture``, ``linear`` or ``polynomial``.
        factor: Small images along a side of a stored one; 1 for none.
        init: ``real``: cells start as real images; ``noise``: pixels start as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    method = "m3d"
    layer_steps = 10
    latent_rates = (10.0, 0.01)  # those of DM

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        arch: str = "convnet3",
        iterations: int = 10_000,
        network_steps: int = 5,
        lr: ByBudget[float] = LR,
        momentum: float = 0.5,
        batch_real: ByBudget[int] = 256,
        kernel: str = "gaussian-mixture",
        factor: int = 2,
        init: Init = "real",
        augmentation: str = FULL_STRATEGY,
    ) -> None:
        super().__init__(
            ipc, seed, arch, iterations, lr, momentum, batch_real, factor, init, augmentation
        )
        self.network_steps = network_steps
        self.kernel = kernel

    def check(self, data: ImageDataModule) -> None:
        """Refuse settings outside their ranges, and unknown kernels."""
        super().check(data)
        discrepancy(self.kernel)
        if self.network_steps < 1:
            raise UserError(f"network_steps must be at least 1, not {self.network_steps}.")

    @property
    def gap(self) -> Gap:
        """What a step descends."""
        return partial(feature_gap, statistic=discrepancy(self.kernel))

    def distill(self, item: WorkItem) -> Shard:
        """Optimise the images of one class."""
        return self.optimise(item, self.gap, per_network=self.network_steps)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Show a batch of real and all synthetic images of a class to a network, in every iteration."""
        return [self.matching_stage("match distributions", self.gap, sizes, self.iterations)]
