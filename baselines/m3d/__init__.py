"""M3D: grids whose cells are distributed like real images in the eyes of random networks."""

from baselines.m3d.distiller import M3D

__all__ = ["M3D"]
