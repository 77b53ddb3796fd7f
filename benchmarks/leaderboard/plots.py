"""Geometry of the accuracy plots: where axes, curves and ceilings lie. Drawing them is the template's work."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.tables.folding import FULL, Score, budget
from benchmarks.tables.groups import Group

WIDTH, HEIGHT = 340, 230  # of a plot, in its own units; it scales with the page
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 12, 40
COLOURS = 8  # classes s0 to s7 of the style sheet
_MARKERS = (  # coprime with the number of colours: 40 pairs before one comes back
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.5,-3.5h7v7h-7z",
    "M0,-4.6L4.4,3.2H-4.4z",
    "M0,-5L5,0L0,5L-5,0z",
    "M0,4.6L4.4,-3.2H-4.4z",
)


@dataclass(frozen=True)
class Style:
    """How a row is drawn, the same in every plot of a page.

    Attributes:
        colour: Number of its colour.
        marker: Path of its marker, around the origin.
    """

    colour: int
    marker: str


@dataclass(frozen=True)
class Point:
    """A mean at one number of images per class.

    Attributes:
        x: Position.
        y: Position of the mean.
        low: Position one standard deviation below it; ``y`` for a single result.
        high: As ``low``, above.
        text: What it stands for, in words.
    """

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Curve:
    """The points of one row.

    Attributes:
        label: Name of the row.
        style: How it is drawn.
        points: By rising number of images per class.
    """

    label: str
    style: Style
    points: list[Point]


@dataclass(frozen=True)
class Plot:
    """Accuracy over images per class for one student.

    Attributes:
        student: Whose.
        x_ticks: Positions and texts.
        y_ticks: Positions and texts, in %.
        curves: One per row that has this student.
        ceilings: Positions of the teachers' accuracies.
        full: Positions and texts of this student's accuracy when trained on all real images; a curve where the
            group has nothing else.
    """

    student: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    curves: list[Curve]
    ceilings: list[float]
    full: list[tuple[float, str]]


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """Give every row its colour and marker.

    Args:
        labels: Names of rows, in any order.

    Returns:
        Styles by name.

    Example:
        >>> styles(["d4m", "ddoq", "d4m"])["ddoq"].colour
        1
    """
    return {
        label: Style(index % COLOURS, _MARKERS[index % len(_MARKERS)])
        for index, label in enumerate(sorted(set(labels)))
    }


def ceilings(group: Group) -> dict[str, float]:
    """Return the accuracies of the teachers on the real test set: what students trained on all data can hope for.

    Args:
        group: Any group.

    Returns:
        Fractions by the teacher's name, in order.
    """
    accuracies = {}
    for result in group.whole.results:
        teacher = result.teacher or {}
        accuracy = teacher.get("accuracy_real")
        if isinstance(accuracy, int | float):
            name = f"{teacher.get('arch', 'unknown')}: {100 * accuracy:.2f} %"
            accuracies[name] = float(accuracy)
    return dict(sorted(accuracies.items()))


def plots(group: Group, style: Mapping[str, Style]) -> list[Plot]:
    """Lay out one plot per student; all share their axes.

    Args:
        group: What to show.
        style: Styles of its rows.

    Returns:
        Plots in the order of students.
    """
    whole = group.whole
    # All real images are a line where there is something to compare, not the far end of the axis.
    lines = [] if whole.is_full else sorted(r.label for r in whole.rows if r.method == FULL)
    labels = sorted(row.label for row in whole.rows if row.label not in lines)
    scores = _scores(group)
    budgets = sorted({ipc for _, label, ipc in scores if label not in lines})
    tops = ceilings(group)
    spread = [s.mean + sign * (s.std or 0.0) for s in scores.values() for sign in (-1, 1)]
    y_ticks = _ticks([100 * value for value in (*spread, *tops.values())])
    low, high = y_ticks[0], y_ticks[-1]

    def y(fraction: float) -> float:
        share = (min(max(100 * fraction, low), high) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def curve(student: str, label: str) -> Curve:
        # Rows are moved apart a little, or equal points and their bars would hide one another.
        shift = (labels.index(label) - (len(labels) - 1) / 2) * min(3.0, 18 / len(labels))
        points = []
        for ipc in budgets:
            score = scores.get((student, label, ipc))
            if score is not None:
                text = f"{label}, {budget(ipc, full=whole.is_full)}: {score.percent()}"
                points.append(_point(score, text, _x(ipc, budgets) + shift, y))
        return Curve(label, style[label], points)

    def full(student: str) -> list[tuple[float, str]]:
        return [
            (y(score.mean), f"{label}, {budget(ipc, full=True)}: {score.percent()}")
            for (who, label, ipc), score in sorted(scores.items(), key=lambda item: item[0])
            if label in lines and who == student
        ]

    return [
        Plot(
            student,
            _x_ticks(budgets),
            [(y(tick / 100), f"{tick:g}") for tick in y_ticks],
            [drawn for label in labels if (drawn := curve(student, label)).points],
            [y(accuracy) for accuracy in tops.values()],
            full(student),
        )
        for student in whole.columns
    ]


def _scores(group: Group) -> dict[tuple[str, str, int], Score]:
    """Return the scores of a group by student, row and images per class."""
    return {
        (student, row.label, table.ipc): score
        for table in group.tables
        for row in table.rows
        for student in table.columns
        if (score := row.score(student))
    }


def _point(score: Score, text: str, x: float, y: Callable[[float], float]) -> Point:
    std = score.std or 0.0
    return Point(round(x, 1), y(score.mean), y(score.mean - std), y(score.mean + std), text)


def _x(ipc: int, budgets: Sequence[int]) -> float:
    """Place a budget on a logarithmic axis; a single one in the middle."""
    inner = (
        WIDTH - LEFT - RIGHT - 40
    )  # 20 units free at either end, for points that are moved apart
    first, last = math.log(max(budgets[0], 1)), math.log(max(budgets[-1], 1))
    share = 0.5 if last == first else (math.log(max(ipc, 1)) - first) / (last - first)
    return round(LEFT + 20 + share * inner, 1)


def _x_ticks(budgets: Sequence[int]) -> list[tuple[float, str]]:
    """Label the budgets that were run, leaving out texts that would overlap."""
    ticks: list[tuple[float, str]] = []
    for ipc in budgets:
        x, text = _x(ipc, budgets), str(ipc)
        free = not ticks or x - ticks[-1][0] >= 4 * (len(text) + len(ticks[-1][1])) + 4
        ticks.append((x, text if free else ""))
    return ticks


def _ticks(values: Sequence[float]) -> list[float]:
    """Choose round numbers, in %, that enclose values with at most six steps."""
    low, high = max(0.0, min(values)), min(100.0, max(values))
    steps = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
    for step in steps:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last == first:  # a single value: leave room beneath it, above 100 % there is none
            first, last = (first, last + 1) if first == 0 else (first - 1, last)
        if last - first <= 6:
            return [round(step * tick, 6) for tick in range(first, last + 1)]
    return [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
