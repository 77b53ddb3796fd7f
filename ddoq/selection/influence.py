"""Draws of real images that leave out those which change a step the least and the most.

Source: Y. Xu et al., *Distill Gold from Massive Ores*, ECCV 2024, the dynamic stage, whose code is not released: that
norms are compared with quantiles of a running normal distribution, and refreshed now and then, is the paper's; how, and
all constants, are ours.
"""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from ddoq.selection.sampling import Drawn, Sampler

_EPSILON = 1e-12  # added to norms before their logarithm


class InfluenceSampler(Sampler):
    """Remembers how much each image of a class changed a step, and leaves out both tails.

    Every ``interval``-th step is measured: a batch is drawn as without pruning, and the logarithms of its influences are
    taken for normal, around the mean of the batch, since another network changes them all together, and with a variance
    that runs over the measurements. Images in the tails are left out, of that batch by weights of 0 and of later ones by
    not being drawn, until they are measured again. Images that have never been measured stay in.

    Args:
        count: Images of the class.
        low: Share of the distribution at its lower end that is left out, in [0, 0.5).
        high: Share at its upper end, in [0, 0.5).
        interval: Steps between two measurements.
        decay: Of the variance from one measurement to the next, in [0, 1).
    """

    def __init__(self, count: int, low: float, high: float, interval: int, decay: float) -> None:
        normal = NormalDist()
        self._low = normal.inv_cdf(low) if low else -math.inf
        self._high = normal.inv_cdf(1 - high) if high else math.inf
        self._interval = interval
        self._decay = decay
        self._places = torch.zeros(count, dtype=torch.float64)  # the middle: in no tail
        self._variance = torch.zeros((), dtype=torch.float64)
        self._steps = 0

    def draw(self, count: int, size: int, generator: torch.Generator) -> Drawn:
        """Draw images that are not in the tails; any, where the batch will be measured."""
        order = torch.randperm(count, generator=generator)
        if not self._measures:
            inside = order[~self.extreme[order]]
            order = inside if len(inside) else order
        return Drawn(order[:size])

    @property
    def extreme(self) -> Tensor:
        """Which images lie in the tails, bool ``(count,)``; none that was never measured."""
        return (self._places < self._low) | (self._places > self._high)

    @property
    def _measures(self) -> bool:
        return self._steps % self._interval == 0

    def weigh(self, drawn: Drawn, influences: Callable[[], Tensor]) -> Tensor | None:
        """Measure the batch where it is time, and leave out of its mean what lies in the tails."""
        measures = self._measures
        if measures:
            self._measure(drawn.positions, influences())
        self._steps += 1
        kept = ~self.extreme[drawn.positions]
        if not measures or not kept.any() or kept.all():
            return None
        return kept.float() * (len(kept) / int(kept.sum()))

    def _measure(self, positions: Tensor, norms: Tensor) -> None:
        """Update the variance by the norms of some images, and where these lie."""
        logs = (norms.double() + _EPSILON).log()
        decay = self._decay if self._steps else 0.0
        self._variance = decay * self._variance + (1 - decay) * logs.var(unbiased=False)
        deviation = self._variance.sqrt()
        self._places[positions] = (logs - logs.mean()) / deviation if deviation > 0 else 0.0

    def state(self) -> dict[str, Any]:
        """Return places, variance and the count of steps."""
        kept = {"places": self._places, "variance": self._variance, "steps": self._steps}
        return {"influences": kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        kept = state["influences"]
        self._places, self._variance = kept["places"].clone(), kept["variance"].clone()
        self._steps = kept["steps"]
