"""Synthetic graphs that pull a network's weights where real ones pull them, in one step from random weights."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.doscond.graphs import SyntheticGraphs, first_nodes
from baselines.graphs import GraphMethod
from ddoq.bounds import check_number
from ddoq.distillation.shard import Shard, WorkItem
from ddoq.errors import UserError
from ddoq.graphs.batches import DenseGraphs, Graphs
from ddoq.graphs.build import build_graph_network, graph_settings, redraw
from ddoq.graphs.data import GraphDataModule
from ddoq.graphs.dense import dense_gcn
from ddoq.graphs.sets import graph_shard
from ddoq.objectives.functional import gradients_of
from ddoq.objectives.gradients import gradient_distance
from ddoq.optimisation.steps import StepLoop
from ddoq.seeding import generator_for
from ddoq.smoke import lower

if TYPE_CHECKING:  # it needs an extra
    from ddoq.graphs.networks import GraphNetwork


class DosCond(GraphMethod[GraphDataModule]):
    r"""Match, class by class, the gradient of a fresh network on synthetic graphs with that on real ones.

    .. math::
        \min_{X, \Omega} \; \mathbb{E}_{\theta_0} \sum_c D\bigl( \nabla_\theta \ell(B_c; \theta_0),
        \nabla_\theta \ell(A(\Omega_c), X_c; \theta_0) \bigr) + \beta \max(0, \bar\sigma(\Omega_c) - \rho_c)

    Every iteration draws a graph convolutional network and takes one step; no network is ever trained. Edges are
    Bernoulli variables, relaxed to the concrete distribution at a temperature that falls. At the end the edges that are
    likelier than not are kept. The networks are those of the step, whatever the class, so that classes are independent.

    Source: W. Jin et al., *Condensing Graphs via One-Step Gradient Matching*, KDD 2022; constants from the official
    repository amazon-science/doscond at 1790a72.

    Args:
        ipc: Graphs per class.
        seed: Decides first graphs, networks, batches and noise.
        nodes: Nodes of each synthetic graph; as many as a training graph has on average where None.
        iterations: Networks that are drawn, with one step each.
        lr_features: Rate of Adam for features.
        lr_edges: Rate of Adam for logits of edges.
        drop_at: Iteration from which both rates are a tenth.
        batch_real: Real graphs of a class in a step; a smaller class is taken whole.
        distance: ``relative-squared-error`` (the paper's), ``row-cosine`` or ``global-cosine``.
        density_weight: Weight of what edges are denser than at the start.
        hidden: Width of the networks.
        depth: Their layers.
        pooling: ``mean``, ``sum`` or ``max`` over nodes.
    """

    method = "doscond"

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        nodes: int | None = None,
        iterations: int = 1000,
        lr_features: float = 0.01,
        lr_edges: float = 0.01,
        drop_at: int = 400,
        batch_real: int = 256,
        distance: str = "relative-squared-error",
        density_weight: float = 0.1,
        hidden: int = 128,
        depth: int = 3,
        pooling: str = "mean",
    ) -> None:
        super().__init__(ipc, seed)
        self.nodes = nodes
        self.iterations = iterations
        self.lr_features = lr_features
        self.lr_edges = lr_edges
        self.drop_at = drop_at
        self.batch_real = batch_real
        self.distance = distance
        self.density_weight = density_weight
        self.network_settings: dict[str, Any] = {
            "hidden": hidden,
            "depth": depth,
            "pooling": pooling,
        }

    @classmethod
    def tiny(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Take few real graphs and narrow networks."""
        most = {"batch_real": 8, "hidden": 8}
        smaller = {name: lower(given.get(name, value), value) for name, value in most.items()}
        return {**super().tiny(given), **smaller}

    @property
    def needs_gradient(self) -> bool:
        """It descends."""
        return True

    def check(self, data: GraphDataModule) -> None:
        """Refuse settings outside their ranges."""
        super().check(data)
        for name in ("iterations", "batch_real"):
            check_number(name, getattr(self, name), at_least=1)
        for name in ("drop_at", "density_weight"):
            check_number(name, getattr(self, name), at_least=0)
        for name in ("lr_features", "lr_edges"):
            check_number(name, getattr(self, name), above=0)
        if self.nodes is not None and self.nodes < 2:
            raise UserError(f"nodes must be at least 2, not {self.nodes}: one node has no edge.")
        gradient_distance(self.distance)
        graph_settings("gcn", self.network_settings)

    def distill(self, item: WorkItem) -> Shard:
        """Optimise the graphs of one class."""
        (label,) = item.classes
        train = self.data.train
        positions = train.of_class(label)
        start = self._start(train, positions, label).to(self.device)
        dense = start.dense(self._size(self.data))
        rates = (self.lr_features, self.lr_edges)
        synthetic = SyntheticGraphs(dense.x, dense.adjacency, label, rates, self.drop_at)
        real = train.select(positions).to(self.device)
        loop = StepLoop(
            self.iterations,
            state=synthetic.state,
            restore=synthetic.restore,
            checkpoint=self.checkpoint(item),
            what=f"{self.method}, {item.name}",
            mend="Lower model.init_args.lr_features or lr_edges.",
        )
        sizes = (self.data.num_features, self.data.num_classes)
        network = build_graph_network("gcn", *sizes, **self.network_settings)
        for step in loop:
            loss = self._loss(network, synthetic, real, label, step)
            synthetic.descend(loss, step)
            loop.loss = loss.detach()
        graphs = synthetic.discrete()
        nodes = synthetic.x.shape[1]
        info = {
            "edges_per_node": graphs.edges.shape[1] / 2 / len(graphs.x),
            "density_before": synthetic.density,
            "density_after": graphs.edges.shape[1] / (len(graphs) * nodes * (nodes - 1)),
        }
        return graph_shard(graphs, nodes, nodes * (nodes - 1) // 2, {}, info)

    def _size(self, data: GraphDataModule) -> int:
        return max(2, data.mean_nodes) if self.nodes is None else self.nodes

    def _start(self, train: Graphs, positions: Tensor, label: int) -> Graphs:
        """Draw real graphs that are small enough; where there are too few, larger ones are cut to their size."""
        size = self._size(self.data)
        generator = generator_for(self.seed, "doscond start", label)
        drawn = positions[torch.randperm(len(positions), generator=generator)]
        fits = train.nodes[drawn] <= size
        chosen = torch.cat([drawn[fits], drawn[~fits]])[: self.ipc]
        x, edges = [], []
        for features, pairs in map(train.single, chosen.tolist()):
            if len(features) > size:
                kept = first_nodes(features, pairs, size)
                features, pairs = _induced(features, pairs, kept)
            padding = features.new_zeros(size - len(features), features.shape[1])
            x.append(torch.cat([features, padding]))
            edges.append(pairs)
        return Graphs.of(x, edges, torch.full((len(chosen),), label))

    def _loss(
        self,
        network: "GraphNetwork",
        synthetic: SyntheticGraphs,
        real: Graphs,
        label: int,
        step: int,
    ) -> Tensor:
        """Return the distance of the gradients under the weights of a step, and what edges are too dense."""
        redraw(network, "doscond network", step, seed=self.seed)
        on_device = copy.deepcopy(network).to(self.device) if self.device.type != "cpu" else network
        if self.batch_real < len(real):
            generator = generator_for(self.seed, "doscond real", label, step)
            rows = torch.randperm(len(real), generator=generator)[: self.batch_real]
            real = real.select(rows.to(self.device))
        noise = generator_for(self.seed, "doscond noise", label, step)
        gap = gradient_gap(on_device, real, synthetic.relaxed(step, noise), self.distance)
        return gap + self.density_weight * synthetic.surplus()


def gradient_gap(
    network: torch.nn.Module, real: Graphs, synthetic: DenseGraphs, distance: str
) -> Tensor:
    """Return the distance of two gradients of a network's weights, of which the real one is not differentiated.

    Args:
        network: A ``gcn`` of :func:`ddoq.graphs.build.build_graph_network`.
        real: Graphs of one class.
        synthetic: Graphs of the same class; gradients flow to features and edges.
        distance: A key of :data:`ddoq.objectives.gradients.DISTANCES`.
    """
    weights = dict(network.named_parameters())
    pooling = str(network.pooling)
    of_real = F.cross_entropy(network(real), real.labels)
    wanted = gradients_of(of_real, weights, differentiable=False)
    logits = dense_gcn(weights, synthetic, pooling)
    loss = F.cross_entropy(logits, synthetic.labels)
    given = gradients_of(loss, weights, differentiable=True)
    return gradient_distance(distance)(wanted, given)


def _induced(x: Tensor, edges: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Keep some nodes of a graph and the edges between them."""
    place = torch.full((len(x),), -1)
    place[kept] = torch.arange(len(kept))
    moved = place[edges]
    return x[kept], moved[:, (moved >= 0).all(dim=0)]
