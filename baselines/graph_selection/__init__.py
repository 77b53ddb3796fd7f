"""Real graphs, or nodes of one: chosen at random, by herding, or as centres."""

from baselines.graph_selection.distiller import (
    GraphHerding,
    GraphKCenter,
    GraphRandom,
    NodeHerding,
    NodeKCenter,
    NodeRandom,
)

__all__ = [
    "GraphHerding",
    "GraphKCenter",
    "GraphRandom",
    "NodeHerding",
    "NodeKCenter",
    "NodeRandom",
]
