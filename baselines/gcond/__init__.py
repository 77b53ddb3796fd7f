"""GCond, in one step: the nodes of one graph that pull a network's weights where real nodes pull them."""

from baselines.gcond.distiller import GCond

__all__ = ["GCond"]
