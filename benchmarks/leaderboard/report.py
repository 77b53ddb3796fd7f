"""A report over result files: every method against chosen ones, with intervals, corrected p-values and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.leaderboard.board import Board, render
from benchmarks.statistics.comparison import interval_text
from benchmarks.statistics.effects import OVER_STUDENTS, Effect, effects
from benchmarks.statistics.graphs import GRAPHS
from benchmarks.statistics.seeded import (
    SeededRow,
    SeededTable,
    seeded,
    seeded_graphs,
    seeded_transfers,
)
from benchmarks.statistics.transfers import TRANSFERS
from benchmarks.tables.folding import fold
from benchmarks.tables.summaries import seeds_text
from ddoq.errors import UserError, suggest
from ddoq.escaping import markdown, markdown_table
from ddoq.storage.files import atomic_path

_INTRODUCTION = """Written by `ddoq-bench report` from result files; nothing in it is typed. Differences are of top-1 on the real test
set after the last epoch, paired by seeds (Student's t). *Corrected p* holds the false discovery rate over the report (Benjamini
and Hochberg); verdicts use it at 5 %. Intervals are over seeds alone: dataset, teacher and prior are the same for all."""


def findings(comparisons: Sequence[Effect]) -> list[str]:
    """Say in a sentence per row and recipe what the mean over students shows.

    Args:
        comparisons: What :func:`benchmarks.statistics.effects.effects` returns.

    Returns:
        Sentences; where a table has a single student, that student stands for the mean.
    """
    sentences = []
    groups: dict[tuple[object, ...], list[Effect]] = {}
    for effect in comparisons:
        key = (
            effect.place,
            effect.recipe,
            effect.distinction,
            effect.row,
            effect.against,
        )
        groups.setdefault(key, []).append(effect)
    for group in groups.values():
        main = next((e for e in group if e.student == OVER_STUDENTS), group[0])
        single = [e for e in group if e.student != OVER_STUDENTS]
        counts = [
            f"{verdict} for {sum(e.verdict == verdict for e in single)} of {len(single)} students"
            for verdict in ("better", "worse")
            if any(e.verdict == verdict for e in single)
        ]
        students = f"; alone {' and '.join(counts)}" if counts and len(group) > 1 else ""
        suffix = f" ({main.distinction})" if main.distinction else ""
        sentences.append(
            markdown(
                f"{main.place}, {main.recipe}{suffix}: **{main.row}** minus "
                f"**{main.against}** is {_points(main)}: {main.verdict}{students}."
            )
        )
    return sentences


def _points(effect: Effect) -> str:
    d = effect.difference
    interval = interval_text(d)
    basis = f"95 % {interval}, n={d.n}" if interval else "one pair"
    return f"{100 * d.mean:+.2f} points ({basis})"


def _effect_table(comparisons: Sequence[Effect]) -> str:
    rows = []
    for e in comparisons:
        d = e.difference
        values = [_p_value(d.p_value), _p_value(e.adjusted)]
        place = [
            e.short,
            e.recipe + (f" ({e.distinction})" if e.distinction else ""),
        ]
        rows.append(
            [*place, e.row, e.student, f"{100 * d.mean:+.2f}", interval_text(d), *values, str(d.n)]
        )
    headers = [
        "dataset",
        "recipe",
        "row",
        "student",
        "points",
        "95 % interval",
        "p",
        "corrected p",
        "pairs",
    ]
    align = ["left"] * 4 + ["right"] * 5
    return markdown_table(headers, rows, align)


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class _Section:
    """What is said of the results of one kind.

    Attributes:
        heading: Empty for those of classification of images, which come first.
        text: What a reader has to know of it.
        what: What the values are, in a word.
        tables: All of the kind.
    """

    heading: str
    text: str
    what: str
    tables: Sequence[SeededTable]


_OTHERS = """Paired by seeds (Student's t); *corrected p* holds the false discovery rate over this section, and verdicts use it at 5 %."""


def _sections(board: Board) -> list[_Section]:
    """List the kinds of results that a board holds."""
    found = [
        _Section("", _INTRODUCTION, "top-1", seeded(fold(board.results))),
        _Section(
            TRANSFERS,
            f"Differences are of top-1 on the real test images of the target dataset. {_OTHERS}",
            "top-1",
            seeded_transfers(board.transfers),
        ),
        _Section(
            GRAPHS,
            f"Differences are of the score on real test graphs, or test nodes, after the last epoch. {_OTHERS}",
            "score",
            seeded_graphs(board.graphs),
        ),
    ]
    return [section for section in found if section.tables]


def _check(sections: Sequence[_Section], against: Sequence[str]) -> None:
    rows = [row for section in sections for table in section.tables for row in table.rows]
    known = sorted({name for row in rows for name in (row.method, row.label)})
    for name in against:
        if name not in known:
            raise UserError(f"No result is of the method {name!r}. {suggest(name, known)}")


def _section_text(
    section: _Section, comparisons: Sequence[Effect], stem: Path
) -> tuple[list[str], dict[Path, Sequence[Effect]]]:
    """Write a section; return its paragraphs, and the effects of each figure that it names."""
    level = "###" if section.heading else "##"
    figure = stem.with_name(f"{stem.name}-accuracy.png")
    rows = [row for table in section.tables for row in table.rows]
    parts = [
        *([f"## {section.heading}"] if section.heading else []),
        section.text,
        "Seeds: " + "; ".join(sorted({_seeds(row) for row in rows})) + ".",
        f"{level} What was found",
        "\n".join(f"- {line}" for line in findings(comparisons)),
        f"{level} Accuracies" if section.what == "top-1" else f"{level} Scores",
        f"Dots are single pairs of seeds, bars 95 % intervals of their mean.\n\n![Accuracies]({figure.name})",
    ]
    forests: dict[Path, Sequence[Effect]] = {}
    for base in dict.fromkeys(effect.against for effect in comparisons):
        selected = [effect for effect in comparisons if effect.against == base]
        slug = "".join(c if c.isalnum() else "-" for c in base).strip("-")
        forest = stem.with_name(f"{stem.name}-{slug}.png")
        forests[forest] = selected
        parts += [
            markdown(f"{level} Against {base}"),
            f"![Differences]({forest.name})",
            _effect_table(selected),
        ]
    return parts, forests


def _seeds(row: SeededRow) -> str:
    return seeds_text(seeds for pairs in row.values.values() for seeds, _ in pairs)


def write_report(
    board: Board, folder: Path, against: Sequence[str], output: Path, title: str = "Report"
) -> None:
    """Write a report and its figures.

    Args:
        board: Results and what is missing from them.
        folder: Where they come from.
        against: Methods or labels of rows that all others are compared with.
        output: The Markdown file; figures lie beside it under the same stem.
        title: Its heading.

    Raises:
        UserError: If there is no result or no row of such a name, or the file cannot be written.
    """
    from benchmarks.leaderboard.report_plots import accuracy_figure, effects_figure

    sections = _sections(board)
    if not sections:
        raise UserError(f"There is no usable result in {folder}: run `ddoq-bench suite` first.")
    _check(sections, against)
    parts, figures = [markdown(f"# {title}")], []
    for section in sections:
        comparisons = effects(section.tables, against)
        if comparisons:
            suffix = f"-{section.heading.lower()}" if section.heading else ""
            stem = output.with_name(output.stem + suffix)
            texts, forests = _section_text(section, comparisons, stem)
            parts += texts
            figures.append((section, stem.with_name(f"{stem.name}-accuracy.png"), forests))
    if not figures:
        names = ", ".join(against)
        raise UserError(f"{folder} has nothing to compare with {names}: no seeds in common.")
    whole = render(board, folder, "markdown").replace("\n#", "\n##").removeprefix("# Leaderboard")
    parts += ["## All tables", whole.strip()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for section, figure, forests in figures:
            accuracy_figure(section.tables, figure, section.what)
            for forest, selected in forests.items():
                effects_figure(selected, forest, section.what)
        with atomic_path(output) as temporary:
            temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror}.") from None
