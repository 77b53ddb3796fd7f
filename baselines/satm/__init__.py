"""SATM: trajectory matching that looks for a flat minimum in the space of images."""

from baselines.satm.distiller import SATM

__all__ = ["SATM"]
