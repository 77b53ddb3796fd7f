"""FTD: matching the trajectories of experts that end in flat places."""

from baselines.ftd.distiller import FTD

__all__ = ["FTD"]
