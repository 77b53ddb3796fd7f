"""The figures of a study: distances over K, gaps over K, gaps over distances."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.leaderboard.drawing import COLOURS, GREY, new_figure, plain_text, save_figure
from benchmarks.theory.codebooks import CELLS, ONLINE, PERMUTED, UNIFORM
from benchmarks.theory.findings import Measurements, Place
from benchmarks.theory.options import LATENTS, MAPS, REAL

_LINES = {CELLS: "-", UNIFORM: "--", ONLINE: "-.", PERMUTED: ":"}
_MARKERS = {CELLS: "o", UNIFORM: "s", ONLINE: "^", PERMUTED: "x"}


def draw_figures(measurements: Measurements, paths: Mapping[str, Path]) -> None:
    """Draw figures.

    Args:
        measurements: A record.
        paths: Files of ``rates``, ``gaps`` and ``bound``.
    """
    draw = {"rates": _draw_rates, "gaps": _draw_gaps, "bound": _draw_bound}
    with plain_text([]):
        for name, path in paths.items():
            draw[name](measurements, path)


def _colour(measurements: Measurements, quantizer: str) -> str:
    return COLOURS[measurements.quantizers.index(quantizer) % len(COLOURS)]


def _logarithmic(axis: Any) -> None:
    """Make both axes logarithmic, with plain numbers at 1, 2 and 5 of a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=(1, 2, 5)))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(alpha=0.3)
    axis.tick_params(labelsize=7)


def _over_budgets(axis: Any, measurements: Measurements) -> None:
    _logarithmic(axis)
    axis.set_xticks(measurements.budgets, [str(k) for k in measurements.budgets])
    axis.set_xlabel("K (centroids a class)", fontsize=8)


def _draw_rates(measurements: Measurements, path: Path) -> None:
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    for quantizer in measurements.quantizers:
        colour = _colour(measurements, quantizer)
        for split, line in (("train", "o-"), ("held_out", "o:")):
            values = [measurements.distortion(quantizer, k, split) for k in measurements.budgets]
            _positive(left, measurements, values, line, color=colour, ms=3, lw=1)
        law = measurements.rate(quantizer, "train")
        sizes = measurements.fitted_budgets()
        if law is not None:
            left.plot(sizes, [law.at(k) for k in sizes], color=colour, lw=4, alpha=0.25)
        for weighting in measurements.weightings(quantizer):
            distances = [measurements.w2((quantizer, weighting), k) for k in measurements.budgets]
            _positive(right, measurements, distances, _LINES[weighting], color=colour, lw=1.2)
    for axis, title in (
        (left, "distortion: training (solid, fit broad), held out (dotted)"),
        (right, "W2 to the training latents"),
    ):
        _over_budgets(axis, measurements)
        axis.set_title(title, fontsize=9)
    _legend(figure, left, measurements)
    save_figure(figure, path)


def _positive(
    axis: Any, measurements: Measurements, values: Sequence[float], *line: str, **style: Any
) -> None:
    """Draw values over numbers of centroids, but for those that have no logarithm."""
    known = [(k, v) for k, v in zip(measurements.budgets, values, strict=True) if v > 0]
    axis.plot([k for k, _ in known], [v for _, v in known], *line, **style)


def _draw_gaps(measurements: Measurements, path: Path) -> None:
    spaces, steps = measurements.spaces, measurements.steps
    figure = new_figure(3.6 * len(steps), 2.9 * len(spaces) + 0.6)
    axes = figure.subplots(len(spaces), len(steps), squeeze=False, sharex=True)
    for row, space in enumerate(spaces):
        for column, step in enumerate(steps):
            axis = axes[row][column]
            _gap_lines(axis, measurements, (space, step))
            _over_budgets(axis, measurements)
            axis.set_title(f"{space}, step {step}", fontsize=9)
            if column == 0:
                axis.set_ylabel("relative gap", fontsize=8)
    _legend(figure, axes[0][0], measurements)
    save_figure(figure, path)


def _gap_lines(axis: Any, measurements: Measurements, place: Place) -> None:
    for kind in measurements.kinds():
        values = [(k, measurements.gaps(place, kind, k)) for k in measurements.budgets]
        known = [(k, fmean(gaps)) for k, gaps in values if gaps]
        if known:
            colour = _colour(measurements, kind[0])
            axis.plot(*zip(*known, strict=True), _LINES[kind[1]], color=colour, lw=1.2)
    floor = measurements.floor(place)
    if floor and place[0] not in (LATENTS, MAPS):  # there it is rounding
        axis.axhline(floor, color="black", lw=0.8, alpha=0.6)
    if place[0] not in (LATENTS, MAPS, REAL) and "random" in measurements.quantizers:
        values = [
            (k, measurements.gaps((REAL, place[1]), ("random", UNIFORM), k))
            for k in measurements.budgets
        ]
        known = [(k, fmean(gaps)) for k, gaps in values if gaps]
        if known:
            axis.plot(*zip(*known, strict=True), color=GREY, lw=3, alpha=0.35)


def _draw_bound(measurements: Measurements, path: Path) -> None:
    spaces, steps = measurements.spaces, measurements.steps
    figure = new_figure(3.6 * len(steps), 2.9 * len(spaces) + 0.6)
    axes = figure.subplots(len(spaces), len(steps), squeeze=False)
    largest = max(measurements.budgets)
    for row, space in enumerate(spaces):
        for column, step in enumerate(steps):
            axis = axes[row][column]
            for kind in measurements.kinds():
                for k in measurements.budgets:
                    gaps = measurements.gaps((space, step), kind, k)
                    if k > 1 and gaps:
                        size = 8 + 50 * k / largest
                        axis.scatter(
                            measurements.w2(kind, k),
                            fmean(gaps),
                            s=size,
                            color=_colour(measurements, kind[0]),
                            marker=_MARKERS[kind[1]],
                            alpha=0.6,
                            linewidths=0.8,
                        )
            axis.set_title(f"{space}, step {step}", fontsize=9)
            _logarithmic(axis)
            if row == len(spaces) - 1:
                axis.set_xlabel("W2 in latents (larger mark: larger K)", fontsize=8)
            if column == 0:
                axis.set_ylabel("relative gap", fontsize=8)
    _legend(figure, axes[0][0], measurements, marks=True)
    save_figure(figure, path)


def _legend(figure: Any, axis: Any, measurements: Measurements, *, marks: bool = False) -> None:
    handles = [
        axis.plot([], [], "-", lw=3, color=_colour(measurements, name), label=name)[0]
        for name in measurements.quantizers
    ]
    used = {weighting for _, weighting in measurements.kinds()}
    for weighting in (name for name in _LINES if name in used):
        style = {"marker": _MARKERS[weighting], "ls": ""} if marks else {"ls": _LINES[weighting]}
        handles += axis.plot([], [], color="black", label=weighting, **style)
    if not marks and REAL in measurements.spaces and axis.get_title().startswith(LATENTS):
        label = "random real images"
        handles += axis.plot([], [], color=GREY, lw=3, alpha=0.35, label=label)
        handles += axis.plot(
            [], [], color="black", lw=0.8, alpha=0.6, label="all images, decoded by the VAE"
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=6, fontsize=8)
