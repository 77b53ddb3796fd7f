import math
import statistics

import pytest

from benchmarks.leaderboard import plots
from benchmarks.tables.groups import group


def laid_out(results):
    (only,) = group(results)
    return plots.plots(only, plots.styles([row.label for row in only.whole.rows]))


def test_positions_follow_the_axes(result_of):
    accuracies = {1: 0.2, 10: 0.4, 100: 0.6}
    (plot,) = laid_out([result_of(ipc=i, top1=a) for i, a in accuracies.items()])
    assert [text for _, text in plot.x_ticks] == ["1", "10", "100"]
    xs = [x for x, _ in plot.x_ticks]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)  # logarithmic
    (curve,) = plot.curves
    assert [point.x for point in curve.points] == xs
    (y0, t0), (y1, t1) = plot.y_ticks[0], plot.y_ticks[-1]
    for point, accuracy in zip(curve.points, accuracies.values(), strict=True):
        share = (100 * accuracy - float(t0)) / (float(t1) - float(t0))
        assert point.y == pytest.approx(y0 + share * (y1 - y0), abs=0.1)


def test_bars_are_one_standard_deviation(result_of):
    accuracies = [0.5, 0.6, 0.65]
    (plot,) = laid_out([result_of(seed=s, top1=a) for s, a in enumerate(accuracies)])
    (point,) = plot.curves[0].points
    (y0, t0), (y1, t1) = plot.y_ticks[0], plot.y_ticks[-1]
    std = 100 * statistics.stdev(accuracies) / (float(t1) - float(t0)) * (y0 - y1)
    assert point.low - point.y == pytest.approx(std, abs=0.15)
    assert point.y - point.high == pytest.approx(std, abs=0.15)
    assert point.text.startswith("ddoq, 10 images per class: 58.3 ± 7.6 (n=3)")


def test_ceilings_are_the_teachers(result_of):
    (only,) = group([result_of(ipc=1), result_of(ipc=10)])
    assert plots.ceilings(only) == {"convnet3: 97.22 %": 0.9722}
    (plot,) = laid_out([result_of(top1=0.3)])
    (ceiling,) = plot.ceilings
    assert plots.TOP <= ceiling < plot.curves[0].points[0].y


def test_rows_keep_style_and_never_hide_one_another(result_of):
    results = [result_of(method=m, student=s) for m in ("a", "b", "c") for s in ("resnet18", "vit")]
    first, second = laid_out(results)
    assert [c.style for c in first.curves] == [c.style for c in second.curves]
    points = [(curve.points[0].x, curve.points[0].y) for curve in first.curves]
    assert len(set(points)) == 3
    assert len({(c.style.colour, c.style.marker) for c in first.curves}) == 3


def test_forty_rows_are_told_apart():
    found = plots.styles([f"method {index:02}" for index in range(40)]).values()
    assert len({(style.colour, style.marker) for style in found}) == 40


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.5], [0.999, 0.9991], [0.0, 1.0], [0.37, 0.52]])
def test_axes_enclose_all_points(result_of, values):
    (plot,) = laid_out([result_of(method=f"m{i}", top1=v) for i, v in enumerate(values)])
    assert 2 <= len(plot.y_ticks) <= 7
    bottom, top = plot.y_ticks[0][0], plot.y_ticks[-1][0]
    ys = [p.y for c in plot.curves for p in c.points] + plot.ceilings
    assert all(math.isfinite(y) and top <= y <= bottom for y in ys)
    assert float(plot.y_ticks[0][1]) <= 100 * min(values)
    assert float(plot.y_ticks[-1][1]) >= 100 * max(values)


def test_crowded_budgets_leave_labels_out(result_of):
    (plot,) = laid_out([result_of(ipc=i) for i in (1, 500, 510, 520, 530)])
    told = [text for _, text in plot.x_ticks]
    assert len(told) == 5
    assert "" in told


def test_all_real_images_are_a_line_beside_others_and_a_curve_alone(result_of):
    full = result_of(method="full", ipc=500, top1=0.9)
    (plot,) = laid_out([result_of(ipc=i) for i in (1, 10)] + [full])
    assert [text for _, text in plot.x_ticks] == ["1", "10"]
    assert [curve.label for curve in plot.curves] == ["ddoq"]
    ((y, text),) = plot.full
    assert text == "full, all training images (up to 500 per class): 90.0 (n=1)"
    assert plot.ceilings[0] < y < plot.curves[0].points[0].y
    (alone,) = laid_out([full])
    assert alone.full == []
    assert [curve.label for curve in alone.curves] == ["full"]
