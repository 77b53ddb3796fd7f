"""Labelled graphs: datasets, networks on them in sparse and dense form, relaxed edges, and sets of distilled graphs.

Importing this needs no more than the package itself; what opens a dataset or builds a network needs the extra ``graphs``.
"""

from ddoq.graphs.batches import DenseGraphs, Graphs
from ddoq.graphs.data import GraphDataModule
from ddoq.graphs.embedding import GraphEmbedding
from ddoq.graphs.molecules import OGBGraphs
from ddoq.graphs.motifs import Motifs
from ddoq.graphs.tu import TUGraphs

__all__ = [
    "DenseGraphs",
    "GraphDataModule",
    "GraphEmbedding",
    "Graphs",
    "Motifs",
    "OGBGraphs",
    "TUGraphs",
]
