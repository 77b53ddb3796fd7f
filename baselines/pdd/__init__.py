"""Sets that are learnt stage by stage (PDD)."""

from baselines.pdd.distiller import PDD

__all__ = ["PDD"]
