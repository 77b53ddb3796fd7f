"""K-center: real images that leave no image of their class far away."""

from baselines.k_center.distiller import KCenter

__all__ = ["KCenter"]
