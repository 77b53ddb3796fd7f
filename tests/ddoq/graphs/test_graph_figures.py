import numpy as np
from PIL import Image
from toy_graphs import random_graphs
from toy_nodes import random_nodes

from ddoq.graphs.figures import graph_sheet, node_sheet


def test_a_row_a_class_with_nodes_and_edges(tmp_path):
    path = tmp_path / "sheet.png"
    graph_sheet(random_graphs(), ["even", "nobody", "odd"], path)
    with Image.open(path) as image:
        assert image.width == 2 * 192  # 1.6 inches a graph at 120 dots
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 10


def test_one_graph_with_a_colour_a_class(tmp_path):
    nodes = random_nodes()
    path = tmp_path / "sheet.png"
    node_sheet(nodes, ["even", "odd"], path)
    with Image.open(path) as image:
        assert image.size == (720, 720)
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0).tolist()
    # The two ends of the scale.
    assert [68, 1, 84] in colours
    assert [253, 231, 36] in colours or [253, 231, 37] in colours
