"""MTT: students' trainings on synthetic images that end where experts' trainings on real ones do."""

from baselines.mtt.distiller import MTT

__all__ = ["MTT"]
