"""Which real images an optimisation starts from, and which a step is matched with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """The real images of a step.

    Attributes:
        positions: int64 ``(b,)``, among those of the class.
        weights: Float ``(b,)``: what each counts in a mean over the batch, 1 on average; None where all count the same.
    """

    positions: Tensor
    weights: Tensor | None = None


class Sampler:
    """Chooses real images of one class: all are as likely as one another, and none comes twice.

    Subclasses choose otherwise. A draw depends on its generator and on the state alone: asked again, it gives the same.

    Example:
        >>> drawn = Sampler().draw(4, 4, torch.Generator().manual_seed(0))
        >>> drawn.positions.sort().values, drawn.weights
        (tensor([0, 1, 2, 3]), None)
    """

    def first(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Choose the images that synthetic ones start from; a smaller choice is the beginning of a larger one.

        Args:
            count: Images of the class.
            size: How many; all where there are fewer.
            generator: CPU generator.

        Returns:
            int64 ``(size,)``, all different.
        """
        return torch.randperm(count, generator=generator)[:size]

    def draw(self, count: int, size: int, generator: torch.Generator) -> Drawn:
        """Draw the images of a step.

        Args:
            count: Images of the class.
            size: How many; all where there are fewer.
            generator: CPU generator.
        """
        return Drawn(torch.randperm(count, generator=generator)[:size])

    def weigh(self, drawn: Drawn, influences: Callable[[], Tensor]) -> Tensor | None:
        """Say what each image of a step counts, once a step, when its network is known; the state may change by it.

        Args:
            drawn: What was drawn for the step.
            influences: Measures how much each image changes the step, float ``(b,)``; it takes a backward pass an image.

        Returns:
            Float ``(b,)``, on the CPU; None where all count the same.
        """
        return drawn.weights

    def state(self) -> dict[str, Any]:
        """Return all that later draws depend on, for a checkpoint."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; it may hold more than this sampler's."""
