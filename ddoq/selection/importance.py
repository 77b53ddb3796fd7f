"""Draws of real images by importance: with weights that leave a mean over them what it is over all."""

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.selection.sampling import Drawn, Sampler


class ImportanceSampler(Sampler):
    r"""Draws the images of a class in proportion to their importance.

    Batches are drawn with repetition, and image i weighs :math:`1 / (n p_i)`, which is :math:`1 / (m p_i)` in the sum over m
    drawn ones divided by n: the weighted mean over a batch is on average the mean over the class.

    Args:
        scores: Float ``(n,)``, at least 0, some above.
        first: Whether synthetic images start from images that are drawn by importance, too, without repetition.
        batches: Whether batches are.

    Raises:
        UserError: If scores are negative, not finite or all 0.

    Example:
        >>> sampler = ImportanceSampler(torch.tensor([1.0, 3.0]))
        >>> sampler.probabilities
        tensor([0.2500, 0.7500], dtype=torch.float64)
        >>> drawn = sampler.draw(2, 1, torch.Generator().manual_seed(0))
        >>> bool(torch.isclose(drawn.weights * sampler.probabilities[drawn.positions] * 2, torch.ones(1).double()))
        True
    """

    def __init__(self, scores: Tensor, *, first: bool = True, batches: bool = True) -> None:
        scores = scores.detach().double().cpu()
        if (
            not bool(torch.isfinite(scores).all())
            or bool((scores < 0).any())
            or not scores.sum() > 0
        ):
            raise UserError("Scores of importance must be finite and at least 0, and some above.")
        self.probabilities = scores / scores.sum()
        self._first = first
        self._batches = batches

    def first(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw without repetition: the images with the smallest of exponential times at rates p; those of p = 0 last."""
        if not self._first:
            return super().first(count, size, generator)
        times = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
        return torch.argsort(times / self.probabilities, stable=True)[:size]

    def draw(self, count: int, size: int, generator: torch.Generator) -> Drawn:
        """Draw with repetition, with the weights that undo it; a class smaller than the batch gives as many as it has."""
        if not self._batches:
            return super().draw(count, size, generator)
        drawn = torch.multinomial(
            self.probabilities, min(size, count), replacement=True, generator=generator
        )
        return Drawn(drawn, 1 / (count * self.probabilities[drawn]))
