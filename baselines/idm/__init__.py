"""IDM: distribution matching in grids, under a pool of networks that learn from real images."""

from baselines.idm.distiller import IDM

__all__ = ["IDM"]
