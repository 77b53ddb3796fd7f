"""DM: distribution matching under networks of random weights."""

from baselines.dm.distiller import DM

__all__ = ["DM"]
