"""Networks on graphs by name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from ddoq.bounds import check_number
from ddoq.errors import UserError, suggest
from ddoq.graphs.extra import require
from ddoq.seeding import derive_seed

if TYPE_CHECKING:  # it needs an extra
    from ddoq.graphs.networks import GraphNetwork, Layers, NodeNetwork

Task = Literal["graphs", "nodes"]  # what is classified
POOLINGS: Final = ("mean", "sum", "max")
# The arguments that each takes, and their defaults: depth, width and pooling of DosCond's GCN, for all of them; a GIN
# adds up over nodes as its authors do.
_COMMON: Final[dict[str, Any]] = {"hidden": 128, "depth": 3, "pooling": "mean", "dropout": 0.0}
NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "gcn": _COMMON,
    "gin": {**_COMMON, "pooling": "sum"},
    "gat": {**_COMMON, "heads": 4},
}
# On nodes there is nothing to pool; two layers see as far as those of T. N. Kipf and M. Welling.
_OF_NODES: Final[dict[str, Any]] = {"hidden": 128, "depth": 2, "dropout": 0.0}
NODE_NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "gcn": _OF_NODES,
    "gin": _OF_NODES,
    "gat": {**_OF_NODES, "heads": 4},
}
_TABLES: Final = {"graphs": NETWORKS, "nodes": NODE_NETWORKS}


def build_graph_network(name: str, features: int, classes: int, **kwargs: Any) -> "GraphNetwork":
    """Build an untrained network; weights come from torch's global generator.

    Args:
        name: ``gcn``, ``gin`` or ``gat``.
        features: Columns of the nodes' features.
        classes: Number of logits.
        kwargs: ``hidden`` (width), ``depth`` (layers), ``pooling`` (``mean``, ``sum`` or ``max``), ``dropout``; of ``gat``
            also ``heads``, which divides the width.

    Raises:
        UserError: If name or an argument is unknown or out of its range, or without the extra ``graphs``.

    Example:
        >>> network = build_graph_network("gcn", 7, 2, hidden=16)
        >>> network.convs[0].lin.weight.shape, network.head.weight.shape
        (torch.Size([16, 7]), torch.Size([2, 16]))
    """
    settings = graph_settings(name, kwargs)
    require("torch_geometric.nn")
    from ddoq.graphs import networks

    layers = {
        "gcn": networks.gcn_layer,
        "gin": networks.gin_layer,
        "gat": networks.gat_layer(settings.pop("heads", 1)),
    }
    return networks.GraphNetwork(layers[name], features, classes, **settings)


def build_node_network(name: str, features: int, classes: int, **kwargs: Any) -> "NodeNetwork":
    """Build an untrained network on nodes; weights come from torch's global generator.

    Args:
        name: ``gcn``, ``gin`` or ``gat``.
        features: Columns of the nodes' features.
        classes: Number of logits.
        kwargs: As of :func:`build_graph_network`, but for ``pooling``.

    Raises:
        UserError: As there.

    Example:
        >>> build_node_network("gcn", 7, 2, hidden=16).convs[1].lin.weight.shape
        torch.Size([16, 16])
    """
    settings = graph_settings(name, kwargs, "nodes")
    require("torch_geometric.nn")
    from ddoq.graphs import networks

    layers = {
        "gcn": networks.gcn_layer,
        "gin": networks.weighted_gin_layer,
        "gat": networks.unweighted_gat_layer(settings.pop("heads", 1)),
    }
    return networks.NodeNetwork(layers[name], features, classes, **settings)


def graph_settings(name: str, kwargs: Mapping[str, Any], task: Task = "graphs") -> dict[str, Any]:
    """Return all arguments of a network, those that were left out at their defaults.

    Args:
        name: See :func:`build_graph_network`.
        kwargs: Those that are given.
        task: Whether it classifies graphs or nodes.

    Raises:
        UserError: As :func:`build_graph_network`.

    Example:
        >>> graph_settings("gin", {"depth": 2})
        {'hidden': 128, 'depth': 2, 'pooling': 'sum', 'dropout': 0.0}
    """
    known = _TABLES[task]
    if name not in known:
        raise UserError(
            f"There is no network on graphs called {name!r}. {suggest(name, known)} Graphs take {', '.join(known)}."
        )
    for key in kwargs:
        if key not in known[name]:
            of_nodes = " on nodes" if task == "nodes" else ""
            raise UserError(
                f"{name}{of_nodes} has no argument {key!r}. {suggest(key, known[name])}"
            )
    settings = {**known[name], **kwargs}
    for key in ("hidden", "depth", "heads"):
        if key in settings:
            check_number(f"{name}: {key}", settings[key], at_least=1)
            if not isinstance(settings[key], int):
                raise UserError(f"{name}: {key} must be a whole number, not {settings[key]}.")
    check_number(f"{name}: dropout", settings["dropout"], at_least=0, below=1)
    if settings.get("pooling", POOLINGS[0]) not in POOLINGS:
        raise UserError(
            f"{name}: there is no pooling {settings['pooling']!r}. {suggest(str(settings['pooling']), POOLINGS)}"
        )
    if settings["hidden"] % settings.get("heads", 1):
        raise UserError(
            f"{name}: hidden must be a multiple of heads, not {settings['hidden']} and {settings['heads']}."
        )
    return settings


def build_network(
    task: Task, name: str, features: int, classes: int, **kwargs: Any
) -> "GraphNetwork | NodeNetwork":
    """Build an untrained network for a task: see :func:`build_graph_network` and :func:`build_node_network`."""
    build = build_graph_network if task == "graphs" else build_node_network
    return build(name, features, classes, **kwargs)


def draw_graph_network(
    name: str,
    features: int,
    classes: int,
    *keys: int | str,
    seed: int,
    task: Task = "graphs",
    **kwargs: Any,
) -> "GraphNetwork | NodeNetwork":
    """Build a network whose weights depend on a seed and keys alone; torch's global generator is left as it was.

    Args:
        name: See :func:`build_graph_network`.
        features: Columns of the nodes' features.
        classes: Number of logits.
        keys: What the network is for.
        seed: The seed of the run.
        task: Whether it classifies graphs or nodes.
        kwargs: Further arguments of the network.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_network(task, name, features, classes, **kwargs)
    redraw(network, *keys, seed=seed)
    return network


def redraw(network: "Layers", *keys: int | str, seed: int) -> None:
    """Give a network the weights of another draw, in a tenth of the time that building it takes.

    Args:
        network: On the CPU.
        keys: As of :func:`draw_graph_network`.
        seed: The seed of the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *keys))
        network.reset_parameters()
