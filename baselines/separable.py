"""Methods whose loss sees real images through a mean over them, so that each image's share is known."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from baselines.matching import ClassMatching, Gap
from ddoq.objectives.influence import influences
from ddoq.optimisation.real_images import RealImages


class SeparableMatching(ClassMatching):
    """Descends a function of a mean over the real images of a batch: mean features, or the mean gradient.

    So a batch may be weighted, and what an image changes can be computed without drawing another batch: wrappers that
    choose real images for every step (:class:`ddoq.selection.sampling.Sampler`) need a base of this kind.
    """

    @abstractmethod
    def rows(self, network: nn.Module, real: Tensor, label: int) -> Tensor:
        """Return what the loss takes the mean of, a row for each real image.

        Args:
            network: Of the step.
            real: Float ``(m, 3, h, w)``, images of one class, augmented.
            label: The class.

        Returns:
            Float ``(m, d)``, without gradient.
        """

    @abstractmethod
    def compare(
        self, network: nn.Module, synthetic: Tensor, label: int
    ) -> Callable[[Tensor], Tensor]:
        """Return the loss as a function of the mean row, float ``(d,)``.

        Args:
            network: Of the step.
            synthetic: Float ``(n, 3, h, w)``, images of the class, augmented; the loss is differentiated by them.
            label: The class.
        """

    def loss_of(
        self, network: nn.Module, gap: Gap, real: RealImages, synthetic: Tensor, *keys: int
    ) -> Tensor:
        """Weigh the real images of the step as their sampler says; see :meth:`ClassMatching.loss_of`."""
        if self.sampling is None:
            return super().loss_of(network, gap, real, synthetic, *keys)
        label = keys[-1]
        batch, shown = self.pair(real, synthetic, *keys)

        def measure() -> Tensor:
            compared = self.compare(network, shown, label)
            return influences(self.rows(network, batch, label), compared, synthetic).cpu()

        weights = real.sampler.weigh(self.drawn(real, *keys), measure)
        if weights is None:
            return gap(network, batch, shown)
        rows = self.rows(network, batch, label)
        mean = (weights.to(rows)[:, None] * rows).mean(dim=0)
        return self.compare(network, shown, label)(mean)
