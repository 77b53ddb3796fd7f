"""DosCond: graphs that pull a network's weights where real ones pull them."""

from baselines.doscond.distiller import DosCond

__all__ = ["DosCond"]
