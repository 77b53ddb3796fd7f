"""Pictures of distilled graphs."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ddoq.fonts import drawable
from ddoq.graphs.batches import Graphs
from ddoq.storage.files import atomic_path

_PANEL = 1.6  # inches
_MOST_NODES = 150  # that are laid out by forces; larger graphs stand in a circle


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
    import networkx as nx
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
            drawn = nx.Graph()
            drawn.add_nodes_from(range(len(x)))
            drawn.add_edges_from(edges.T.tolist())
            place = (
                nx.spring_layout(drawn, seed=0)
                if len(x) <= _MOST_NODES
                else nx.circular_layout(drawn)
            )
            colours = x.argmax(dim=1) if x.shape[1] > 1 else torch.zeros(len(x))
            nx.draw_networkx(
                drawn,
                place,
                ax=ax,
                with_labels=False,
                node_size=max(4, 300 // len(x)),
                width=0.6,
                edge_color="#777777",
                node_color=colours.tolist(),
                cmap="viridis",
                vmin=0,
                vmax=width - 1,
            )
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
