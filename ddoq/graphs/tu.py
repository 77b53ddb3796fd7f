"""The TU datasets for graph classification, by name, through torch_geometric."""

from pathlib import Path

import torch

from ddoq.data import ClassRegistry
from ddoq.errors import UserError
from ddoq.graphs.data import Features, GraphDataModule, RawGraphs
from ddoq.graphs.extra import require


class TUGraphs(GraphDataModule):
    """A dataset of C. Morris et al., *TUDataset*, 2020, e.g. MUTAG, NCI1, DD, IMDB-BINARY; downloaded where it is missing.

    Nodes have the indicators of their labels that the dataset brings, and with ``attributes`` its numbers too.

    Args:
        dataset: Its name at https://chrsmrrs.github.io/datasets.
        root: Folder of downloads; raw files that lie in ``root/<dataset>/raw`` are read without network.
        attributes: Whether continuous attributes of nodes count as features.
        split_seed: See :class:`GraphDataModule`, as for the rest.
        features: As there.
        degrees: As there.
        drop_single_nodes: As there.
    """

    def __init__(
        self,
        dataset: str,
        root: str = "data/graphs",
        attributes: bool = False,
        split_seed: int = 0,
        features: Features = "auto",
        degrees: int = 64,
        drop_single_nodes: bool = False,
    ) -> None:
        super().__init__(split_seed, features, degrees, drop_single_nodes)
        if not dataset or Path(dataset).name != dataset:
            raise UserError(
                f"data.dataset must be the name of a TU dataset, e.g. MUTAG, not {dataset!r}."
            )
        self.dataset = dataset
        self.root = root
        self.attributes = attributes
        self.name = dataset.lower()

    def load(self) -> RawGraphs:
        """Read the graphs, downloaded if need be."""
        datasets = require("torch_geometric.datasets")
        try:
            read = datasets.TUDataset(self.root, self.dataset, use_node_attr=self.attributes)
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"The TU dataset {self.dataset} can neither be read in {Path(self.root) / self.dataset} nor downloaded "
                f"({type(error).__name__}: {error}). Check its name, or put its files into the folder `raw` there."
            ) from error
        graphs = [read[i] for i in range(len(read))]
        labels = torch.tensor([int(graph.y) for graph in graphs])
        return RawGraphs(
            [graph.x for graph in graphs],
            [int(graph.num_nodes) for graph in graphs],
            [graph.edge_index for graph in graphs],
            labels,
            ClassRegistry([str(label) for label in range(int(labels.max()) + 1)]),
        )
