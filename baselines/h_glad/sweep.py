"""Latents that move through a generator, layer by layer, while they are optimised."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ddoq.optimisation.generated import CHUNK, Decode, GeneratorLatents
from ddoq.priors.generators import Latents

# From latents before one layer to those before a later one: the layers' numbers, and the latents.
Advance = Callable[[Latents, int, int], Latents]


class SweptLatents(GeneratorLatents):
    """Optimises before one layer after the other; from each it takes on the step whose images were nearest.

    At a layer the latents as they come and those after each step are compared by a distance of their images; the nearest
    are pushed through the layer, and a fresh optimiser begins. After the last layer the nearest are what is left. What is
    kept of a step is a copy.

    Args:
        decoding: Gives the generator from a layer on, to the space that images are matched in.
        advance: Pushes latents through layers.
        latents: Before the first of the layers.
        layers: Their numbers, ascending.
        names: Theirs, for the record.
        steps: Of each layer.
        distance: Of images, float ``(n, 3, h, w)``: what shall be small.
        lr: Step size of features.
        lr_styles: Step size of styles.
        momentum: Of both.
        bound: Features are kept in [-bound, bound].
        chunk: Images that go through the generator at a time.
        before: Images that stand before these and stay as they are; None for none.

    Attributes:
        chosen: Which step was taken on from each layer that is done; 0 is the latents as they came.
    """

    def __init__(
        self,
        decoding: Callable[[int], Decode],
        advance: Advance,
        latents: Latents,
        layers: Sequence[int],
        names: Sequence[str],
        steps: int,
        distance: Callable[[Tensor], Tensor],
        *,
        lr: float,
        lr_styles: float,
        momentum: float,
        bound: float,
        chunk: int = CHUNK,
        before: Tensor | None = None,
    ) -> None:
        self._decoding = decoding
        self._advance = advance
        self._layers = list(layers)
        self._names = list(names)
        self._steps = steps
        self._distance = distance
        self.chosen: list[int] = []
        self._done = 0
        super().__init__(
            decoding(layers[0]),
            latents.features,
            latents.styles,
            lr=lr,
            lr_styles=lr_styles,
            momentum=momentum,
            bound=bound,
            chunk=chunk,
            before=before,
        )
        self._best = self._here()

    def _here(self) -> dict[str, Any]:
        """Copy the latents as they are now, with the distance of their images."""
        styles = {} if self.styles is None else {"styles": self.styles.detach().clone()}
        distance = self._distance(self.images.detach()[self.fixed :])
        features = self.features.detach().clone()
        return {"features": features, **styles, "distance": distance, "step": self._done}

    def follow(self, gradient: Tensor, loss: Tensor) -> None:
        """Take a step, and move on to the next layer after the last one of this."""
        super().follow(gradient, loss)
        self._done += 1
        here = self._here()
        if bool(here["distance"] < self._best["distance"]):
            self._best = here
        if self._done == self._steps:
            self._move()

    def _move(self) -> None:
        """Take on the nearest latents, before the next layer, if there is one."""
        best = Latents(self._best["features"], self._best.get("styles"))
        self.chosen.append(int(self._best["step"]))
        place = len(self.chosen)
        if place == len(self._layers):
            self.begin(best.features, best.styles)
            return
        pushed = self._advance(best, self._layers[place - 1], self._layers[place])
        self._decode = self._decoding(self._layers[place])
        self.begin(pushed.features, pushed.styles)
        self._done = 0
        self._best = self._here()

    def info(self) -> dict[str, Any]:
        """Return which step was taken on from each layer."""
        return {"chosen": dict(zip(self._names, self.chosen, strict=False))}

    def state(self) -> dict[str, Any]:
        """Return all that later steps depend on: where it is, and the nearest latents so far."""
        sweep = {"chosen": list(self.chosen), "done": self._done, "best": dict(self._best)}
        return {**super().state(), "sweep": sweep}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        sweep = state["sweep"]
        self.chosen, self._done = [int(step) for step in sweep["chosen"]], int(sweep["done"])
        place = min(len(self.chosen), len(self._layers) - 1)
        self._decode = self._decoding(self._layers[place])
        super().restore(state)
        device = self.images.device
        self._best = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in sweep["best"].items()
        }
