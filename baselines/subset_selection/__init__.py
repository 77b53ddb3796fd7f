"""Real images chosen by provable importance, to start from and to match with."""

from baselines.subset_selection.distiller import SubsetSelection

__all__ = ["SubsetSelection"]
