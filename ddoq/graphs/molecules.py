"""Datasets of the Open Graph Benchmark for graph classification, by name, through ogb."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.data import ClassRegistry
from ddoq.errors import UserError
from ddoq.graphs.batches import one_hot
from ddoq.graphs.data import GraphDataModule, RawGraphs
from ddoq.graphs.extra import require

_PICKLE = Path("processed") / "data_processed"  # what ogb keeps, and torch no longer reads


class OGBGraphs(GraphDataModule):
    """Molecules with one yes-or-no question, e.g. ogbg-molhiv (W. Hu et al., *Open Graph Benchmark*, NeurIPS 2020).

    The split is the benchmark's own, by scaffold; the metric is its ROC-AUC. Nodes have the indicators of the nine atom
    features side by side, on which a linear layer is the sum of embeddings that the benchmark's networks begin with.
    Bonds' features are not used.

    Args:
        dataset: Its name: ``ogbg-molhiv``, ``ogbg-molbace`` or ``ogbg-molbbbp``.
        root: Folder of downloads.
        drop_single_nodes: See :class:`GraphDataModule`.
    """

    metric = "roc-auc"

    def __init__(
        self,
        dataset: str = "ogbg-molhiv",
        root: str = "data/graphs",
        drop_single_nodes: bool = False,
    ) -> None:
        super().__init__(features="given", drop_single_nodes=drop_single_nodes)
        require("ogb")
        if not dataset.startswith("ogbg-mol"):
            raise UserError(
                f"data.dataset must be one of the benchmark's molecules, e.g. ogbg-molhiv, not {dataset!r}."
            )
        self.dataset = dataset
        self.root = root
        self.name = dataset

    def load(self) -> RawGraphs:
        """Read the graphs, downloaded if need be."""
        kind = require("ogb.graphproppred").GraphPropPredDataset
        pickle = Path(self.root) / self.dataset.replace("-", "_") / _PICKLE
        pickle.unlink(missing_ok=True)
        try:
            read: Any = kind(name=self.dataset, root=self.root)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise UserError(
                f"{self.dataset} can neither be read in {self.root} nor downloaded ({type(error).__name__}: {error})."
            ) from error
        labels = torch.tensor(read.labels)
        if labels.ndim != 2 or labels.shape[1] != 1 or not set(labels.unique().tolist()) <= {0, 1}:
            raise UserError(
                f"{self.dataset} asks more than one yes-or-no question of a graph: take e.g. ogbg-molhiv."
            )
        split = read.get_idx_split()
        train, val, test = (
            torch.as_tensor(split[name]).long() for name in ("train", "valid", "test")
        )
        dims = require("ogb.utils.features").get_atom_feature_dims()
        return RawGraphs(
            [atom_indicators(torch.as_tensor(graph["node_feat"]), dims) for graph in read.graphs],
            [int(graph["num_nodes"]) for graph in read.graphs],
            [torch.as_tensor(graph["edge_index"]).long() for graph in read.graphs],
            labels[:, 0].long(),
            ClassRegistry(["no", "yes"]),
            (train.sort().values, val.sort().values, test.sort().values),
        )


def atom_indicators(features: Tensor, dims: list[int]) -> Tensor:
    """Write each column of whole numbers as indicators, side by side.

    Args:
        features: int64 ``(v, len(dims))``.
        dims: Columns for each.

    Example:
        >>> atom_indicators(torch.tensor([[1, 0]]), [2, 3]).tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    columns = [one_hot(features[:, i].long(), width) for i, width in enumerate(dims)]
    return torch.cat(columns, dim=1)
