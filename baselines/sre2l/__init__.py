"""SRe2L: squeeze the data into a teacher, recover images from it, relabel them with it."""

from baselines.sre2l.distiller import SRe2L

__all__ = ["SRe2L"]
