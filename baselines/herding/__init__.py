"""Herding: real images whose mean feature is that of their class."""

from baselines.herding.distiller import Herding

__all__ = ["Herding"]
