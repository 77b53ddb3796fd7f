"""Pictures of distilled graphs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddoq.fonts import drawable
from ddoq.graphs.batches import Graphs
from ddoq.graphs.nodes.batch import Nodes
from ddoq.storage.files import atomic_path

_PANEL = 1.6  # inches
_MOST_NODES = 150  # that are laid out by forces; larger graphs stand in a circle
_SHEET = 6  # inches, of one graph of labelled nodes
_MOST_EDGES = 2000  # that are drawn of it
_MOST_NAMES = 20


def graph_sheet(
    graphs: Graphs,
    class_names: Sequence[str],
    path: Path,
    max_per_class: int = 6,
    max_rows: int = 10,
) -> None:
    """Draw graphs as a PNG: a row per class; nodes have the colour of their largest feature.

    Args:
        graphs: Of a distilled set, on the CPU.
        class_names: Names in label order.
        path: The file to write.
        max_per_class: Graphs shown of a class, the first ones.
        max_rows: Classes shown, the first ones.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [graphs.of_class(label)[:max_per_class] for label in range(len(class_names))]
    rows = [(name, chosen) for name, chosen in zip(class_names, shown, strict=True) if len(chosen)]
    rows = rows[:max_rows]
    columns = max(len(chosen) for _, chosen in rows)
    figure = Figure(figsize=(_PANEL * columns, (_PANEL + 0.25) * len(rows)), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    width = max(int(graphs.x.shape[1]), 2)
    for line, (name, chosen) in zip(axes, rows, strict=True):
        for ax in line:
            ax.axis("off")
        line[0].set_title(drawable(name)[:24], loc="left", fontsize=9)
        for ax, position in zip(line, chosen.tolist(), strict=False):
            ax.axis("on")  # a frame tells nodes without edges from those of the next graph
            ax.tick_params(left=False, bottom=False)
            for side in ax.spines.values():
                side.set_color("#dddddd")
            x, edges = graphs.single(position)
            colours = x.argmax(dim=1) if x.shape[1] > 1 else torch.zeros(len(x))
            _draw(ax, edges, colours.tolist(), width, size=max(4, 300 // len(x)))
    _save(figure, path)


def node_sheet(nodes: Nodes, class_names: Sequence[str], path: Path) -> None:
    """Draw the graph of a distilled set as a PNG; nodes have the colour of their class, and edges are as dark as they weigh.

    Args:
        nodes: All nodes of the graph, with labels; on the CPU.
        class_names: Names in label order.
        path: The file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SHEET, _SHEET), dpi=120)
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    once = nodes.edges[0] < nodes.edges[1]
    heavy = torch.argsort(nodes.weights[once])[-_MOST_EDGES:]
    edges, weights = nodes.edges[:, once][:, heavy], nodes.weights[once][heavy]
    ax.set_title(_caption(len(nodes), int(once.sum())), loc="left", fontsize=9)
    size = max(8, 3000 // len(nodes))
    _draw(ax, edges, nodes.labels.tolist(), len(class_names), size, weights.tolist())
    for label, name in enumerate(class_names[:_MOST_NAMES]):
        colour = label / max(len(class_names) - 1, 1)
        ax.scatter([], [], color=_cmap()(colour), label=drawable(name)[:24])
    ax.legend(fontsize=7, loc="upper right")
    _save(figure, path)


def _caption(nodes: int, edges: int) -> str:
    shown = f", of which the {_MOST_EDGES} heaviest are drawn" if edges > _MOST_EDGES else ""
    return f"{nodes} nodes, {edges} edges{shown}"


def _draw(
    ax: Any,
    edges: Tensor,
    colours: Sequence[float],
    width: int,
    size: int,
    weights: Sequence[float] | None = None,
) -> None:
    """Draw one graph.

    Args:
        ax: Where to.
        edges: int64 ``(2, e)``.
        colours: Of the nodes, from 0 to ``width - 1``.
        width: How many colours there are.
        size: Of a node.
        weights: Of the edges, in [0, 1], each edge once; all alike where omitted.
    """
    import networkx as nx

    drawn = nx.Graph()
    drawn.add_nodes_from(range(len(colours)))
    drawn.add_edges_from(edges.T.tolist())
    few = len(colours) <= _MOST_NODES
    place = nx.spring_layout(drawn, seed=0) if few else nx.circular_layout(drawn)
    grey = [(0.45, 0.45, 0.45, weight) for weight in weights or ()]
    nx.draw_networkx(
        drawn,
        place,
        ax=ax,
        with_labels=False,
        node_size=size,
        width=0.6,
        edgelist=None if weights is None else edges.T.tolist(),
        edge_color="#777777" if weights is None else grey,
        node_color=colours,
        cmap="viridis",
        vmin=0,
        vmax=width - 1,
    )


def _cmap() -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"]


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
