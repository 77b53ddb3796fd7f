"""Recorded trainings on real images, along which synthetic images are matched."""

from ddoq.trajectories.experts import ExpertTrajectories

__all__ = ["ExpertTrajectories"]
