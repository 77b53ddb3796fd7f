"""Networks that learn from images without labels, as ingredients of methods."""

from ddoq.self_supervised.barlow_twins import BarlowTwins

__all__ = ["BarlowTwins"]
