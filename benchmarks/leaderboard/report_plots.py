"""The figures of a report: accuracies with every seed, and differences with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.leaderboard.drawing import COLOURS, GREY, new_figure, plain_text, save_figure
from benchmarks.statistics.comparison import paired_difference
from benchmarks.statistics.effects import OVER_STUDENTS, Effect
from benchmarks.tables.folding import Table
from ddoq.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LETTERS = 15  # of a row's name in an inch


def accuracy_figure(tables: Sequence[Table], path: Path) -> None:
    """Draw every accuracy: a panel per table, in it a line per row, the best first as in the table, and a colour per student.

    A dot is one pair of seeds; the bar is the 95 % interval of the mean over seeds (Student's t).

    Args:
        tables: What to draw, at least one.
        path: The PNG to write.
    """
    texts = [t for table in tables for t in (table.dataset, table.recipe, *table.columns)]
    with plain_text([*texts, *(row.label for table in tables for row in table.rows)]):
        _draw_accuracies(tables, path)


def _draw_accuracies(tables: Sequence[Table], path: Path) -> None:
    students = sorted({column for table in tables for column in table.columns})
    across = min(2, len(tables))
    beside = [tables[start : start + across] for start in range(0, len(tables), across)]
    lines = [max(len(table.rows) for table in some) for some in beside]
    line = 0.12 + 0.08 * len(students)  # inches
    heights = [0.75 + line * count for count in lines]
    longest = max(len(row.label) for table in tables for row in table.rows)
    figure = new_figure((3.6 + longest / _LETTERS) * across, sum(heights) + 0.4)
    axes = figure.subplots(
        len(beside), across, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for place, (axis, table) in enumerate(zip(axes.flat, tables, strict=False)):
        _draw_table(axis, table, students)
        axis.set_ylim(
            lines[place // across] - 0.4, -0.6
        )  # the best on top, lines as far apart beside
    if len(students) > 1:
        handles = [
            axes[0, 0].plot([], [], "o", color=COLOURS[i % len(COLOURS)], label=drawable(name))[0]
            for i, name in enumerate(students)
        ]
        ncols = min(4, len(students))
        figure.legend(handles=handles, loc="outside upper center", ncols=ncols, fontsize=8)
    save_figure(figure, path)


def _draw_table(axis: "Axes", table: Table, students: Sequence[str]) -> None:
    for place, row in enumerate(table.rows):
        for column in table.columns:
            values = [100 * r.metrics.top1_last for r in row.cells.get(column, [])]
            if not values:
                continue
            number = students.index(column)
            height = place + 0.7 * ((number + 0.5) / len(students) - 0.5)
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(values, [height] * len(values), ".", color=colour, alpha=0.45, ms=5)
            mean = paired_difference(values, [0.0] * len(values))
            reach = 0.0 if mean.high is None else mean.high - mean.mean
            axis.errorbar(
                mean.mean, height, xerr=reach, fmt="|", color=colour, capsize=2.5, ms=8, lw=1.2
            )
    suffix = f" ({table.distinction})" if table.distinction else ""
    students_here = f"; {table.columns[0]}" if len(table.columns) == 1 else ""
    title = f"{table.dataset}, ipc {table.ipc}, {table.recipe}{suffix}{students_here}"
    axis.set_title(drawable(title), fontsize=9)
    names = [drawable(row.label) for row in table.rows]
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel("top-1 (%)", fontsize=8)
    axis.grid(axis="x", alpha=0.3)


def effects_figure(comparisons: Sequence[Effect], path: Path) -> None:
    """Draw differences as a forest plot: a line per effect with its 95 % interval, grey where none is shown.

    Args:
        comparisons: Effects against one row, at least one.
        path: The PNG to write.
    """
    texts = [t for e in comparisons for t in (e.dataset, e.recipe, e.row, e.student, e.against)]
    with plain_text(texts):
        _draw_effects(comparisons, path)


def _draw_effects(comparisons: Sequence[Effect], path: Path) -> None:
    lines = list(reversed(comparisons))
    names = [drawable(f"{e.dataset}, ipc {e.ipc}, {e.recipe}: {e.row}, {e.student}") for e in lines]
    # An inch holds 17 letters of a name; beside the longest there shall be room for the differences.
    width = max(8.5, 3.7 + max(map(len, names)) / 17)
    figure = new_figure(width, 0.9 + 0.21 * len(lines))
    axis = figure.subplots()
    for place, effect in enumerate(lines):
        d = effect.difference
        shown = effect.verdict in ("better", "worse")
        colour = COLOURS[0 if d.mean > 0 else 1] if shown else GREY
        if d.low is not None and d.high is not None:
            axis.plot([100 * d.low, 100 * d.high], [place, place], "-", color=colour, lw=1.5)
        marker = "D" if effect.student == OVER_STUDENTS else "o"
        axis.plot(100 * d.mean, place, marker, color=colour, ms=5)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(lines)), names, fontsize=7)
    axis.set_ylim(-0.7, len(lines) - 0.3)
    figure.supxlabel(  # below names, too: beside long ones the axis is too short for it
        drawable(f"top-1 in points minus {comparisons[0].against} (95 % interval over seeds)"),
        fontsize=8,
    )
    axis.grid(axis="x", alpha=0.3)
    save_figure(figure, path)
