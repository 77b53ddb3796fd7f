"""FRePo: images and label vectors from which ridge regression in a network's features predicts real images."""

from baselines.frepo.distiller import FRePo

__all__ = ["FRePo"]
