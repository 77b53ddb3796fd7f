"""The real images that synthetic ones start from and are matched with."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.images import to_float
from ddoq.selection.sampling import Sampler

Init = Literal["real", "noise"]


class RealImages:
    """Real images of one class on a device, as bytes; batches of them are made as they are drawn.

    Args:
        images: uint8 ``(n, 3, h, w)``, on the device where batches are wanted.
        transform: Maps float images in [0, 1] to the space of the optimisation.
        sampler: Chooses among them; None chooses uniformly.

    Attributes:
        sampler: As given.

    Example:
        >>> real = RealImages(torch.full((5, 3, 2, 2), 255, dtype=torch.uint8), lambda images: images - 0.5)
        >>> real.draw(3, torch.Generator()).shape, real.draw(3, torch.Generator()).unique()
        (torch.Size([3, 3, 2, 2]), tensor([0.5000]))
    """

    def __init__(
        self,
        images: Tensor,
        transform: Callable[[Tensor], Tensor],
        sampler: Sampler | None = None,
    ) -> None:
        self._images = images
        self._transform = transform
        self.sampler = sampler or Sampler()

    def __len__(self) -> int:
        """Count the images."""
        return len(self._images)

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw images without replacement.

        Args:
            size: How many; all where there are fewer.
            generator: CPU generator.

        Returns:
            Float ``(min(size, n), 3, h, w)``, in random order.
        """
        return self.take(torch.randperm(len(self), generator=generator)[:size])

    def take(self, positions: Tensor) -> Tensor:
        """Return certain images.

        Args:
            positions: int64 ``(b,)``, among these images.

        Returns:
            Float ``(b, 3, h, w)``.
        """
        return self._transform(to_float(self._images[positions.to(self._images.device)]))

    def initial(self, count: int, init: Init, generator: torch.Generator) -> Tensor:
        """Make the synthetic images that an optimisation starts from.

        Args:
            count: How many images, at most n where they start from real ones.
            init: ``real`` takes real images that the sampler chooses, ``noise`` standard normal pixels.
            generator: CPU generator.

        Returns:
            Float ``(count, 3, h, w)``.

        Raises:
            UserError: If ``init`` is unknown, or there are too few real images.
        """
        check_init(init)
        if init == "noise":
            noise = torch.randn(count, *self._images.shape[1:], generator=generator)
            return noise.to(self._images.device)
        if count > len(self):
            raise UserError(
                f"{count} synthetic images of a class cannot start from its {len(self)} real ones: lower ipc, or "
                "start from noise."
            )
        return self.take(self.sampler.first(len(self), count, generator))


def check_init(init: str) -> None:
    """Refuse an unknown way to start.

    Raises:
        UserError: Naming the ways there are.
    """
    if init not in get_args(Init):
        raise UserError(f"Unknown init {init!r}. {suggest(init, get_args(Init))}")
