"""Random selection: the baseline that every other method has to beat under the same recipe."""

from baselines.random_selection.distiller import RandomSelection

__all__ = ["RandomSelection"]
