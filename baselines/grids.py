"""What methods share whose stored images are grids of smaller ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.data import ImageDataModule
from ddoq.decoding.decoders import Decoder, Grid, Pixels
from ddoq.distillation.shard import smallest_class
from ddoq.errors import UserError
from ddoq.seeding import generator_for


def grid_of(factor: int) -> Decoder:
    """Return the decoder of a grid; a grid of one cell is the image itself.

    Args:
        factor: Small images along a side.

    Raises:
        UserError: If that is no grid.

    Example:
        >>> grid_of(2), grid_of(1)
        (Grid(factor=2), Pixels())
    """
    grid = Grid(factor)
    return Pixels() if factor == 1 else grid


def check_grid(data: ImageDataModule, factor: int) -> None:
    """Refuse a grid that images cannot be divided into.

    Args:
        data: The dataset.
        factor: Small images along a side.

    Raises:
        UserError: Naming the factor and the size.
    """
    grid_of(factor)
    if data.image_size % factor:
        raise UserError(
            f"factor is {factor}, but a grid of {factor} x {factor} does not divide images of {data.image_size} pixels "
            f"of {data.name}. Choose a factor that divides {data.image_size}, or another data.init_args.image_size."
        )


def check_cells(data: ImageDataModule, ipc: int, factor: int) -> None:
    """Refuse a budget that some class has too few images for, each cell of a grid being a real image.

    Args:
        data: The dataset, set up.
        ipc: Stored images per class.
        factor: Small images along a side.

    Raises:
        UserError: Naming the smallest class.
    """
    name, size = smallest_class(data)
    if ipc * factor**2 > size:
        raise UserError(
            f"ipc is {ipc} and factor {factor}, so that each class needs {ipc * factor**2} real images, {factor**2} for "
            f"each stored one, but class '{name}' of {data.name} has only {size} training images. Lower "
            "model.init_args.ipc or model.init_args.factor, or raise the limit."
        )


def tiny_grid(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of a smoke run, whose classes have a few images: one of four cells, or none.

    Args:
        given: The arguments of a method, by name.

    Example:
        >>> tiny_grid({"factor": 2}), tiny_grid({"factor": 3})
        ({'factor': 2}, {'factor': 1})
    """
    factor = given.get("factor", 2)
    return {"factor": factor if factor in (1, 2) else 1}


def draw_cells(count: int, ipc: int, factor: int, *, seed: int, label: int) -> Tensor:
    """Draw which real images of a class fill its grids, without replacement.

    All methods with grids draw alike: with one seed they start from the images that ``grid-selection`` keeps. Those of a
    smaller budget are the first of a larger one.

    Args:
        count: Real images of the class, at least as many as there are cells.
        ipc: Stored images per class.
        factor: Small images along a side.
        seed: The seed of the run.
        label: The class.

    Returns:
        int64 ``(ipc * factor**2,)``: positions within the class, the cells of a grid behind one another.
    """
    generator = generator_for(seed, "grid", label)
    return torch.randperm(count, generator=generator)[: ipc * factor**2]
