"""The nodes of one synthetic graph that pull a network's weights where those of the real graph pull them, in one step."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.gcond.graph import SyntheticNodes, draw_pair_edges
from baselines.graphs import GraphMethod
from ddoq.bounds import check_number
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.graphs.build import build_node_network, graph_settings, redraw
from ddoq.graphs.dense import dense_node_gcn
from ddoq.graphs.nodes.batch import Nodes
from ddoq.graphs.nodes.data import NodeDataModule
from ddoq.graphs.nodes.sets import node_shard
from ddoq.objectives.functional import gradients_of
from ddoq.objectives.gradients import gradient_distance
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.smoke import lower

if TYPE_CHECKING:  # it needs an extra
    from ddoq.graphs.networks import NodeNetwork


class GCond(GraphMethod[NodeDataModule]):
    r"""Match, class by class, the gradient of a fresh network on a synthetic graph with that on the real one.

    .. math::
        \min_{X, \Phi} \; \mathbb{E}_{\theta_0} \sum_c \frac{n_c}{\max_k n_k} D\bigl( \nabla_\theta \ell_c(A, X; \theta_0),
        \nabla_\theta \ell_c(A_\Phi(X'), X'; \theta_0) \bigr)

    with the loss :math:`\ell_c` over the nodes of a class and its number of training nodes :math:`n_c`. Edges are a
    function of features, by a perceptron on pairs of nodes. Every iteration draws a graph convolutional network and
    takes one step, of the features or of the perceptron by turns; no network is ever trained. At the end edges that
    weigh more than a threshold are kept, with their weights.

    Source: W. Jin et al., *Graph Condensation for Graph Neural Networks*, ICLR 2022, in the form of one step of W. Jin
    et al., *Condensing Graphs via One-Step Gradient Matching*, KDD 2022.

    Args:
        ipc: Nodes per class.
        seed: Decides first features, the perceptron, networks and batches.
        iterations: Networks that are drawn, with one step each.
        lr_features: Rate of Adam for features.
        lr_edges: Rate of Adam for the perceptron.
        feature_steps: Steps of a turn of the features.
        edge_steps: Steps of the turn of the perceptron that follows.
        drop_at: Iteration from which both rates are a tenth.
        batch_real: Real nodes of a class in a step; a smaller class is taken whole.
        distance: ``relative-squared-error``, ``squared-error``, ``row-cosine`` or ``global-cosine``.
        threshold: What edges must weigh to be kept.
        hidden: Width of the networks.
        depth: Their layers.
        edge_hidden: Width of the perceptron.
        edge_depth: Its layers.
    """

    method = "gcond"
    works_on = NodeDataModule

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        iterations: int = 1000,
        lr_features: float = 0.01,
        lr_edges: float = 0.001,
        feature_steps: int = 4,
        edge_steps: int = 1,
        drop_at: int = 400,
        batch_real: int = 256,
        distance: str = "relative-squared-error",
        threshold: float = 0.5,
        hidden: int = 128,
        depth: int = 2,
        edge_hidden: int = 128,
        edge_depth: int = 3,
    ) -> None:
        super().__init__(ipc, seed)
        self.iterations = iterations
        self.lr_features = lr_features
        self.lr_edges = lr_edges
        self.feature_steps = feature_steps
        self.edge_steps = edge_steps
        self.drop_at = drop_at
        self.batch_real = batch_real
        self.distance = distance
        self.threshold = threshold
        self.network_settings: dict[str, Any] = {"hidden": hidden, "depth": depth}
        self.edge_hidden = edge_hidden
        self.edge_depth = edge_depth

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take few real nodes and narrow networks."""
        most = {"batch_real": 8, "hidden": 8, "edge_hidden": 8}
        smaller = {name: lower(given.get(name, value), value) for name, value in most.items()}
        return {**super().tiny(given), **smaller}

    @property
    def needs_gradient(self) -> bool:
        """It descends."""
        return True

    def check(self, data: NodeDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        for name in ("iterations", "feature_steps", "edge_steps", "batch_real", "edge_hidden"):
            check_number(name, getattr(self, name), at_least=1)
        for name in ("lr_features", "lr_edges"):
            check_number(name, getattr(self, name), above=0)
        check_number("drop_at", self.drop_at, at_least=0)
        check_number("threshold", self.threshold, at_least=0, below=1)
        check_number("edge_depth", self.edge_depth, at_least=2)
        gradient_distance(self.distance)
        graph_settings("gcn", self.network_settings, "nodes")

    def summarize(self, infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return how many edges are kept, and what all of them weigh on average."""
        (info,) = infos
        return dict(info)

    def distill(self, item: WorkItem) -> Shard:
        """Optimise the graph."""
        real = self.data.train.to(self.device)
        synthetic = self._start()
        loop = StepLoop(
            self.iterations,
            state=synthetic.state,
            restore=synthetic.restore,
            checkpoint=self.checkpoint(item),
            what=f"{self.method}, {item.name}",
            mend="Lower model.init_args.lr_features or lr_edges.",
        )
        sizes = (self.data.num_features, self.data.num_classes)
        network = build_node_network("gcn", *sizes, **self.network_settings)
        for step in loop:
            loss = self._loss(network, synthetic, real, step)
            synthetic.descend(loss, self._turn(step), step)
            loop.loss = loss.detach()
        nodes = synthetic.sparse(self.threshold)
        count = len(nodes)
        weights = synthetic.adjacency().detach()
        info = {
            "edges_per_node": nodes.edges.shape[1] / 2 / count,
            "density": nodes.edges.shape[1] / (count * (count - 1)),
            "mean_weight": float(weights.sum()) / (count * (count - 1)),
        }
        return node_shard(nodes, {}, info)

    def _start(self) -> SyntheticNodes:
        """Begin with the features of real nodes."""
        train = self.data.train
        chosen = []
        for label in range(self.data.num_classes):
            positions = train.of_class(label)
            generator = generator_for(self.seed, "gcond start", label)
            chosen.append(
                positions[torch.randperm(len(positions), generator=generator)][: self.ipc]
            )
        begun = train.select(torch.cat(chosen)).to(self.device)
        edges = draw_pair_edges(
            self.data.num_features, self.edge_hidden, self.edge_depth, len(begun), self.seed
        )
        return SyntheticNodes(
            begun.x[begun.rows],
            begun.labels,
            edges.to(self.device),
            (self.lr_features, self.lr_edges),
            self.drop_at,
        )

    def _turn(self, step: int) -> str:
        """Say which part takes a step: features first."""
        return (
            "x" if step % (self.feature_steps + self.edge_steps) < self.feature_steps else "edges"
        )

    def _loss(
        self, network: "NodeNetwork", synthetic: SyntheticNodes, real: Nodes, step: int
    ) -> Tensor:
        """Return the weighted distance of the gradients under the weights of a step."""
        redraw(network, "gcond network", step, seed=self.seed)
        on_device = copy.deepcopy(network).to(self.device) if self.device.type != "cpu" else network
        sizes = torch.bincount(real.labels, minlength=self.data.num_classes)
        return gradient_gap(
            on_device,
            real.select(self._batch(real, step)),
            synthetic,
            (sizes / sizes.max()).tolist(),
            self.distance,
        )

    def _batch(self, real: Nodes, step: int) -> Tensor:
        """Draw real nodes of each class."""
        drawn = []
        for label in range(self.data.num_classes):
            positions = real.of_class(label)
            if self.batch_real < len(positions):
                generator = generator_for(self.seed, "gcond real", label, step)
                rows = torch.randperm(len(positions), generator=generator)[: self.batch_real]
                positions = positions[rows.to(positions.device)]
            drawn.append(positions)
        return torch.cat(drawn)


def gradient_gap(
    network: torch.nn.Module,
    real: Nodes,
    synthetic: SyntheticNodes,
    shares: list[float],
    distance: str,
) -> Tensor:
    """Add up, over classes, the distance of two gradients of a network's weights; the real one is not differentiated.

    Args:
        network: A ``gcn`` of :func:`ddoq.graphs.build.build_node_network`.
        real: Nodes of the real graph, some of each class.
        synthetic: The synthetic graph; gradients flow to features and perceptron.
        shares: Weights of the classes.
        distance: A key of :data:`ddoq.objectives.gradients.DISTANCES`.
    """
    weights = dict(network.named_parameters())
    between = gradient_distance(distance)
    of_real = F.cross_entropy(network(real), real.labels, reduction="none")
    logits = dense_node_gcn(weights, synthetic.x, synthetic.adjacency())
    of_synthetic = F.cross_entropy(logits, synthetic.labels, reduction="none")
    gaps = []
    for label, share in enumerate(shares):
        mean = of_real[real.labels == label].mean()
        wanted = gradients_of(mean, weights, differentiable=False, retain=True)
        mean = of_synthetic[synthetic.labels == label].mean()
        given = gradients_of(mean, weights, differentiable=True)
        gaps.append(share * between(wanted, given))
    return torch.stack(gaps).sum()
