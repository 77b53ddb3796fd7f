"""Citation graphs with labelled papers, by name, through torch_geometric."""

from pathlib import Path
from pickle import PickleError
from typing import Final

import torch
from torch import Tensor

from ddoq.data import ClassRegistry
from ddoq.errors import UserError, suggest
from ddoq.graphs.extra import require
from ddoq.graphs.nodes.data import NodeDataModule, RawNodes

# Their folders are called as torch_geometric calls them.
CITATIONS: Final = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}


class CitationGraph(NodeDataModule):
    """Papers that cite one another, with their words (Z. Yang, W. Cohen and R. Salakhutdinov, *Planetoid*, ICML 2016).

    The split is the source's own: twenty training papers of a class, 500 for validation, 1000 for the test. Files are
    downloaded where they are missing. They are pickles, which torch_geometric opens: take them from nobody else.

    Args:
        dataset: ``cora``, ``citeseer`` or ``pubmed``.
        root: Folder of downloads; raw files that lie in ``root/Cora/raw`` (``CiteSeer``, ``PubMed``) are read without
            network.
        normalize: Whether the features of a paper are divided by their sum, as T. N. Kipf and M. Welling do.

    Raises:
        UserError: If there is no such dataset.
    """

    def __init__(
        self, dataset: str = "cora", root: str = "data/graphs", normalize: bool = True
    ) -> None:
        super().__init__()
        if dataset not in CITATIONS:
            raise UserError(
                f"data.dataset: there is no citation graph {dataset!r}. {suggest(dataset, CITATIONS)}"
            )
        self.dataset = dataset
        self.root = root
        self.normalize = normalize
        self.name = dataset

    def load(self) -> RawNodes:
        """Read the graph, downloaded if need be."""
        datasets = require("torch_geometric.datasets")
        folder = CITATIONS[self.dataset]
        try:
            graph = datasets.Planetoid(self.root, folder)[0]
        except (OSError, RuntimeError, ValueError, IndexError, EOFError, PickleError) as error:
            raise UserError(
                f"The citation graph {self.dataset} can neither be read in {Path(self.root) / folder} nor downloaded "
                f"({type(error).__name__}: {error}). Put its files `ind.{self.dataset}.x` and so on, eight in all, into the "
                "folder `raw` there (data.init_args.root says where), or let this machine reach the network once."
            ) from error
        labels = graph.y.long()
        masks = (graph.train_mask, graph.val_mask, graph.test_mask)
        train, val, test = (torch.nonzero(mask).flatten() for mask in masks)
        return RawNodes(
            _row_normalized(graph.x) if self.normalize else graph.x,
            graph.edge_index,
            labels,
            ClassRegistry([str(label) for label in range(int(labels.max()) + 1)]),
            (train, val, test),
        )


def _row_normalized(x: Tensor) -> Tensor:
    """Divide each row by its sum; rows of zeros stay."""
    return x / x.sum(dim=1, keepdim=True).clamp(min=1e-12)
