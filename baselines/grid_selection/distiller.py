"""Real images chosen at random, several of them shrunk into each stored one."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from baselines.grids import check_cells, check_grid, draw_cells, grid_of, tiny_grid
from baselines.matching import siamese_recipe
from ddoq.augmentation.siamese import FULL_STRATEGY, parse_strategy
from ddoq.costs.workload import Parts, Sizes, Stage, image_bytes
from ddoq.data import ImageDataModule
from ddoq.decoding.decoders import tile_grid
from ddoq.decoding.form import SetForm
from ddoq.distillation.distiller import Distiller
from ddoq.distillation.shard import Shard, WorkItem, class_items
from ddoq.images import to_float, to_uint8


class GridSelection(Distiller):
    """Keep random training images of each class, ``factor`` times ``factor`` of them shrunk into every stored one.

    Students see them enlarged again. What methods that optimise such grids add is what they are above this row.

    Args:
        ipc: Stored images per class.
        seed: Decides the choice.
        factor: Small images along a side of a stored one.
        augmentation: Siamese strategy of the students under the recipe ``own``; ``none`` for none. No image depends on
            it.
    """

    method = "grid-selection"

    def __init__(
        self, ipc: int, seed: int = 0, factor: int = 2, augmentation: str = FULL_STRATEGY
    ) -> None:
        super().__init__(ipc, seed)
        self.factor = factor
        self.augmentation = augmentation

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take grids that the few images of a smoke run fill."""
        return {**super().tiny(given), **tiny_grid(given)}

    @property
    def sees_normalized(self) -> bool:
        """No: pixels are averaged as they are."""
        return False

    def check(self, data: ImageDataModule) -> None:
        """Refuse grids that do not divide the images, and budgets above the size of the smallest class."""
        super().check(data)
        parse_strategy(self.augmentation)
        check_grid(data, self.factor)
        check_cells(data, self.ipc, self.factor)

    def shard_settings(self) -> dict[str, Any]:
        """Leave out the augmentation, which decides no image."""
        return {k: v for k, v in super().shard_settings().items() if k != "augmentation"}

    def work_items(self, data: ImageDataModule) -> list[WorkItem]:
        """One item per class."""
        return class_items(data.num_classes)

    def workload(self, sizes: Sizes, parts: Parts) -> list[Stage] | None:
        """Shrink images; no network is run."""
        return [Stage("select", "", 0, 0, {"images": image_bytes(sizes, self.ipc)})]

    def form(self, infos: Sequence[dict[str, Any]]) -> SetForm:
        """Each stored image is a grid; students train as on the sets of methods that optimise one."""
        return SetForm(grid_of(self.factor), recipe=siamese_recipe(self.augmentation))

    def distill(self, item: WorkItem) -> Shard:
        """Draw the images of one class and shrink them into grids."""
        (label,) = item.classes
        positions = self.data.train.of_class(label)
        drawn = draw_cells(len(positions), self.ipc, self.factor, seed=self.seed, label=label)
        cells = positions[drawn]
        real = to_float(self.data.train.load(cells.tolist()))
        return Shard(
            to_uint8(tile_grid(real, self.factor)),
            torch.full((self.ipc,), label),
            {"indices": cells.reshape(self.ipc, -1)},
            {"indices": cells.reshape(self.ipc, -1).tolist(), "points": len(positions)},
        )
