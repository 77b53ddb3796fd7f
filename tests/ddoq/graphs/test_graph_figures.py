import numpy as np
from PIL import Image
from toy_graphs import random_graphs

from ddoq.graphs.figures import graph_sheet


def test_a_row_a_class_with_nodes_and_edges(tmp_path):
    path = tmp_path / "sheet.png"
    graph_sheet(random_graphs(), ["even", "nobody", "odd"], path)
    with Image.open(path) as image:
        assert image.width == 2 * 192  # 1.6 inches a graph at 120 dots
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 10
