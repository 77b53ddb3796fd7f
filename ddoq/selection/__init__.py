"""Selection of real points by features: which of a class stand for it."""

from ddoq.selection.herding import herding
from ddoq.selection.k_center import k_center

__all__ = ["herding", "k_center"]
