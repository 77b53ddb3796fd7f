"""What the matching of trajectories changes: images, the students' step size, and an average of the images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ddoq.objectives.trajectories import Match
from ddoq.optimisation.average import Average
from ddoq.optimisation.pixels import Parameterisation
from ddoq.optimisation.step_size import StepSize


@dataclass
class Trained:
    """All that an optimisation changes.

    Attributes:
        pixels: The synthetic images, of all classes.
        rate: The students' step size.
        average: Of the images over the steps; what is evaluated.
        losses: Of all steps so far.
    """

    pixels: Parameterisation
    rate: StepSize
    average: Average
    losses: list[Tensor] = field(default_factory=list)

    def follow(self, matched: Match) -> None:
        """Take a step of images and step size."""
        self.pixels.follow(matched.images, matched.loss)
        self.rate.follow(matched.step_size)
        self.average.update(self.pixels.images)
        self.losses.append(matched.loss)

    def curve(self) -> Tensor:
        """Return the losses of all steps, float32 on the CPU."""
        return torch.stack([loss.float().cpu() for loss in self.losses])

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on, and the losses."""
        return {
            "pixels": self.pixels.state(),
            "rate": self.rate.state(),
            "average": self.average.value,
            "losses": self.curve(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.pixels.restore(state["pixels"])
        self.rate.restore(state["rate"])
        self.average.restore(state["average"])
        self.losses = list(state["losses"])
