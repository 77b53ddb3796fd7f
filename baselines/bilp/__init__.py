"""Real images pruned before a method matches them, and while it does (BiLP)."""

from baselines.bilp.distiller import BiLP
from baselines.bilp.dynamic import DynamicPruning
from baselines.bilp.ranking import LossRanking

__all__ = ["BiLP", "DynamicPruning", "LossRanking"]
