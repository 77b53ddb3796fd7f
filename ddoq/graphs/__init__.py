"""Labelled graphs, and labelled nodes of a graph: datasets, networks on them in sparse and dense form, relaxed edges, and sets of distilled graphs.

Importing this needs no more than the package itself; what opens a dataset or builds a network needs the extra ``graphs``.
"""

from ddoq.graphs.base import GraphData
from ddoq.graphs.batches import DenseGraphs, Graphs
from ddoq.graphs.data import GraphDataModule
from ddoq.graphs.embedding import GraphEmbedding
from ddoq.graphs.molecules import OGBGraphs
from ddoq.graphs.motifs import Motifs
from ddoq.graphs.nodes.batch import Nodes
from ddoq.graphs.nodes.citations import CitationGraph
from ddoq.graphs.nodes.communities import Communities
from ddoq.graphs.nodes.data import NodeDataModule
from ddoq.graphs.tu import TUGraphs

__all__ = [
    "CitationGraph",
    "Communities",
    "DenseGraphs",
    "GraphData",
    "GraphDataModule",
    "GraphEmbedding",
    "Graphs",
    "Motifs",
    "NodeDataModule",
    "Nodes",
    "OGBGraphs",
    "TUGraphs",
]
