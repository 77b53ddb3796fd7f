"""RDED: the crops of real images that a teacher is surest of, stitched."""

from baselines.rded.distiller import RDED

__all__ = ["RDED"]
