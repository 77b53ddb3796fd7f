"""DC and DSA: gradient matching along short trainings on the synthetic images."""

from baselines.dc.distiller import DC

__all__ = ["DC"]
