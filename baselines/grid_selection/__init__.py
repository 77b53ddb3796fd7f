"""Grid selection: random real images, shrunk into grids and not optimised."""

from baselines.grid_selection.distiller import GridSelection

__all__ = ["GridSelection"]
