"""The figures of a report: accuracies with every seed, and differences with their intervals."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.leaderboard.drawing import COLOURS, GREY, new_figure, plain_text, save_figure
from benchmarks.statistics.comparison import paired_difference
from benchmarks.statistics.effects import OVER_STUDENTS, Effect
from benchmarks.tables.folding import Table
from ddoq.fonts import drawable


def accuracy_figure(tables: Sequence[Table], path: Path) -> None:
    """Draw every accuracy: a panel per table, a group per student, a column of dots per row.

    A dot is one pair of seeds; the bar is the 95 % interval of the mean over seeds (Student's t).

    Args:
        tables: What to draw, at least one.
        path: The PNG to write.
    """
    texts = [t for table in tables for t in (table.dataset, table.recipe, *table.columns)]
    with plain_text([*texts, *(row.label for table in tables for row in table.rows)]):
        _draw_accuracies(tables, path)


def _draw_accuracies(tables: Sequence[Table], path: Path) -> None:
    labels = sorted({row.label for table in tables for row in table.rows})
    across = min(2, len(tables))
    down = -(-len(tables) // across)
    figure = new_figure(5.2 * across, 3.4 * down + 0.5)
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for axis, table in zip(axes.flat, tables, strict=False):
        for row in table.rows:
            place = labels.index(row.label)
            shift = 0.8 * ((place + 0.5) / len(labels) - 0.5)
            colour = COLOURS[place % len(COLOURS)]
            for index, column in enumerate(table.columns):
                values = [100 * r.metrics.top1_last for r in row.cells.get(column, [])]
                if not values:
                    continue
                axis.plot(
                    [index + shift] * len(values), values, ".", color=colour, alpha=0.45, ms=5
                )
                mean = paired_difference(values, [0.0] * len(values))
                reach = 0.0 if mean.high is None else mean.high - mean.mean
                axis.errorbar(
                    index + shift, mean.mean, reach, fmt="_", color=colour, capsize=2.5, ms=9
                )
        suffix = f" ({table.distinction})" if table.distinction else ""
        title = f"{table.dataset}, ipc {table.ipc}, {table.recipe}{suffix}"
        axis.set_title(drawable(title), fontsize=9)
        axis.set_xticks(range(len(table.columns)), [drawable(name) for name in table.columns])
        axis.set_ylabel("top-1 (%)")
        axis.grid(axis="y", alpha=0.3)
    handles = [
        axes[0, 0].plot([], [], "o", color=COLOURS[i % len(COLOURS)], label=drawable(label))[0]
        for i, label in enumerate(labels)
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(4, len(labels)), fontsize=8
    )
    save_figure(figure, path)


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
