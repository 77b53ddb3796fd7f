"""The dynamic stage of BiLP: which real images a step leaves out."""

from dataclasses import dataclass

from baselines.pixels import PixelMethod
from ddoq.bounds import check_number
from ddoq.selection.influence import InfluenceSampler


@dataclass(frozen=True)
class DynamicPruning:
    """How real images are left out by what they change; the paper's constants are not known, and these are ours.

    Attributes:
        low: Share of a running normal distribution at its lower end that is left out.
        high: Share at its upper end.
        interval: Steps between two measurements, each of which takes a backward pass for every image of the batch.
        decay: Of the running variance from one measurement to the next.

    Raises:
        UserError: If a share is not in [0, 0.5), the decay not in [0, 1), or the interval below 1.
    """

    low: float = 0.05
    high: float = 0.05
    interval: int = 25
    decay: float = 0.9

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        for name, bound in (("low", 0.5), ("high", 0.5), ("decay", 1)):
            check_number(f"dynamic.{name}", getattr(self, name), at_least=0, below=bound)
        check_number("dynamic.interval", self.interval, at_least=1)

    def sampler(self, method: PixelMethod, label: int) -> InfluenceSampler:
        """Make the sampler of a class."""
        count = len(method.data.train.of_class(label))
        return InfluenceSampler(count, self.low, self.high, self.interval, self.decay)
