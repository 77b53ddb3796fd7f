"""What methods share that match real images with the cells of grids."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from baselines.grids import check_cells, check_grid, draw_cells, grid_of, tiny_grid
from baselines.matching import ClassMatching
from ddoq.data import ImageDataModule
from ddoq.decoding.decoders import split_grid, tile_grid
from ddoq.decoding.form import SetForm
from ddoq.distillation.tables import ByBudget
from ddoq.optimisation.real_images import Init, RealImages
from ddoq.seeding import generator_for


class GridMatching(ClassMatching):
    """Optimises images that hold ``factor`` times ``factor`` smaller ones, which networks and students see enlarged.

    With one seed, ``init: real`` starts from the images that ``grid-selection`` keeps, before they are rounded to 8 bits.

    Args:
        ipc: Stored images per class.
        seed: Decides first images, networks, batches and augmentations.
        arch: The networks; instance norm, not batch norm.
        iterations: Steps on all classes.
        lr: Step size of the pixels; or a table by images per class.
        momentum: Of the pixels' gradient descent.
        batch_real: Real images of a class in a step; or a table by images per class.
        factor: Small images along a side of a stored one.
        init: ``real``: cells start as real images; ``noise``: pixels start as standard normal noise.
        augmentation: Siamese strategy, kinds joined by underscores; ``none`` for none.
    """

    def __init__(
        self,
        ipc: int,
        seed: int,
        arch: str,
        iterations: int,
        lr: ByBudget[float],
        momentum: float,
        batch_real: ByBudget[int],
        factor: int,
        init: Init,
        augmentation: str,
    ) -> None:
        super().__init__(ipc, seed, arch, iterations, lr, momentum, batch_real, init, augmentation)
        self.factor = factor

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take grids that the few images of a smoke run fill, too."""
        return {**super().tiny(given), **tiny_grid(given)}

    def check(self, data: ImageDataModule) -> None:
        """Refuse grids that do not divide the images, or that a class has too few images for."""
        super().check(data)
        check_grid(data, self.factor)
        if self.init == "real":
            check_cells(data, self.ipc, self.factor)

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Each stored image is a grid; the rest as without one."""
        return replace(super().form(infos), decoder=grid_of(self.factor))

    @property
    def decoded(self) -> int:
        """Cells of a class."""
        return self.ipc * self.factor**2

    def initial(self, real: RealImages, label: int) -> Tensor:
        """Fill grids with real images, or with noise."""
        if self.init != "real":
            return super().initial(real, label)
        total = self.ipc * (1 if self.earlier is None else self.earlier.number + 1)
        if self.sampling is None:
            cells = draw_cells(len(real), total, self.factor, seed=self.seed, label=label)
        else:
            generator = generator_for(self.seed, self.method, "init", label)
            cells = real.sampler.first(len(real), total * self.factor**2, generator)
        return tile_grid(real.take(cells[-self.ipc * self.factor**2 :]), self.factor)

    def pair(self, real: RealImages, synthetic: Tensor, *keys: int) -> tuple[Tensor, Tensor]:
        """Draw a batch of real images, and augment it and the enlarged cells alike; see :class:`ClassMatching`."""
        cells = synthetic if self.factor == 1 else split_grid(synthetic, self.factor)
        return super().pair(real, cells, *keys)
