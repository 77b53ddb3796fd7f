"""Real graphs: chosen at random, by herding, or as centres."""

from baselines.graph_selection.distiller import GraphHerding, GraphKCenter, GraphRandom

__all__ = ["GraphHerding", "GraphKCenter", "GraphRandom"]
