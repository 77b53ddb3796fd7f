"""A step size that is learned with the images, and never falls to 0."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SMALLEST = 1e-5  # ours; below it a student hardly moves, and below 0 it would climb


class StepSize:
    """A positive number that gradient descent with momentum changes.

    Args:
        value: What it starts from, above 0.
        lr: Its own step size.
        momentum: In [0, 1); the heavy-ball kind, as ``torch.optim.SGD`` has it.
        device: Where it is.

    Attributes:
        value: The step size as it is now, float32, a scalar.

    Example:
        >>> rate = StepSize(0.1, lr=0.5, momentum=0.0)
        >>> rate.follow(torch.tensor(1.0))
        >>> rate.value  # 0.1 - 0.5 is below 0
        tensor(1.0000e-05)
    """

    def __init__(
        self, value: float, lr: float, momentum: float, device: torch.device | str = "cpu"
    ) -> None:
        self.value = torch.tensor(value, dtype=torch.float32, device=device)
        self._velocity = torch.zeros_like(self.value)
        self._lr = lr
        self._momentum = momentum

    def follow(self, gradient: Tensor) -> None:
        """Take a step against a gradient, a scalar; what would end below the smallest value ends there."""
        with torch.no_grad():
            self._velocity = self._momentum * self._velocity + gradient
            self.value = (self.value - self._lr * self._velocity).clamp(min=SMALLEST)

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, for a checkpoint."""
        return {"value": self.value, "velocity": self._velocity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; its tensors may be on another device."""
        device = self.value.device
        self.value, self._velocity = (state[name].to(device) for name in ("value", "velocity"))
