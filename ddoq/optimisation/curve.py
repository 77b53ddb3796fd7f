"""The losses of a long optimisation, as means over equal stretches of it."""

import torch
from torch import Tensor

from ddoq.optimisation.fitting import CURVE_POINTS


class LossCurve:
    """Adds up losses on their device, without waiting for it and without keeping each of them.

    Args:
        steps: Length of the optimisation.
        device: Where losses are.
        points: Stretches, at most ``steps``.

    Example:
        >>> curve = LossCurve(4, torch.device("cpu"), points=2)
        >>> for step, loss in enumerate([1.0, 2.0, 3.0, 5.0]):
        ...     curve.add(step, torch.tensor(loss))
        >>> curve.means()
        [1.5, 4.0]
    """

    def __init__(self, steps: int, device: torch.device, points: int = CURVE_POINTS) -> None:
        self._steps = steps
        self._points = min(points, steps)
        self._sums = torch.zeros(self._points, dtype=torch.float64, device=device)

    def add(self, step: int, loss: Tensor) -> None:
        """Take the loss of a step, a scalar."""
        self._sums[step * self._points // self._steps] += loss.detach()

    def means(self) -> list[float]:
        """Return the mean of each stretch, once all steps are done."""
        starts = [-(-point * self._steps // self._points) for point in range(self._points + 1)]
        means: list[float] = (self._sums.cpu() / torch.tensor(starts).diff()).tolist()
        return means

    def state(self) -> Tensor:
        """Return what was added up, for a checkpoint."""
        return self._sums

    def restore(self, state: Tensor) -> None:
        """Go on from a state, on any device."""
        self._sums.copy_(state)
