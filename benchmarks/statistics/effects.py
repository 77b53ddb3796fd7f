"""What each method adds to another: paired differences in every table, corrected for their number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.statistics.comparison import Difference, paired_difference, paired_values
from benchmarks.statistics.seeded import SeededRow, SeededTable, Seeds

OVER_STUDENTS = "mean over students"

Place = tuple[str, str, str, str, str, str]  # all that names an effect but the student


@dataclass(frozen=True)
class Effect:
    """The difference between two rows of a table, for one student or over all.

    Attributes:
        place: Dataset and budget, e.g. ``digits, 10 images per class``.
        short: The same where room is short, e.g. ``digits, ipc 10``.
        recipe: Label of the recipe, or of what was tested.
        distinction: What tells the table from another of the same heading; mostly empty.
        row: Label of the row.
        against: Label of the row that is subtracted.
        student: Label of the student, or :data:`OVER_STUDENTS`.
        difference: Of the values, such as top-1 after the last epoch, as a fraction.
        adjusted: p-value corrected for all effects of a list; None without a p-value.
    """

    place: str
    short: str
    recipe: str
    distinction: str
    row: str
    against: str
    student: str
    difference: Difference
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """Say what the corrected p-value allows to say at 5 %: ``better``, ``worse`` or that nothing is shown."""
        p_value = self.difference.p_value
        if self.adjusted is None or p_value is None:
            return "one pair of seeds: nothing can be said"
        if self.adjusted >= 0.05:
            return "no difference shown" + (" once corrected" if p_value < 0.05 else "")
        return "better" if self.difference.mean > 0 else "worse"


def effects(tables: Iterable[SeededTable], against: Sequence[str]) -> list[Effect]:
    """Compare every row with some rows, in all tables that have both, on the seeds that both have.

    Beside each student stands the mean over students: for each pair of seeds the accuracies of all students of the
    table are averaged first, so that the interval is over seeds. A pair counts there only if every student has it.

    Args:
        tables: Of one kind, see :mod:`benchmarks.statistics.seeded`.
        against: Methods, or labels of rows, to compare with. A method stands for its rows; a row is not compared
            with itself, and two named rows are compared once, in the order given.

    Returns:
        Effects in the order of tables, ``against``, rows and students. Their p-values are corrected together for
        the false discovery rate (Benjamini and Hochberg 1995), means over students apart from single students.
    """
    entries = [effect for table in tables for effect in _of_table(table, against)]
    single = _adjusted([e for e in entries if e.student != OVER_STUDENTS])
    means = _adjusted([e for e in entries if e.student == OVER_STUDENTS])
    corrected = {**single, **means}
    return [replace(e, adjusted=corrected.get(_key(e))) for e in entries]


def _key(effect: Effect) -> tuple[object, ...]:
    place = (effect.place, effect.recipe, effect.distinction)
    return (*place, effect.row, effect.against, effect.student)


def _adjusted(entries: Sequence[Effect]) -> dict[tuple[object, ...], float]:
    known = [(_key(e), e.difference.p_value) for e in entries if e.difference.p_value is not None]
    if not known:
        return {}
    from scipy.stats import false_discovery_control  # half a second; only where it is needed

    values = false_discovery_control([p for _, p in known])
    return {key: float(value) for (key, _), value in zip(known, values, strict=True)}


def _of_table(table: SeededTable, against: Sequence[str]) -> list[Effect]:
    named = [row for name in against for row in _rows(table, name)]
    entries = []
    for index, base in enumerate(named):
        earlier = [row.label for row in named[: index + 1]]
        for row in sorted(table.rows, key=lambda row: row.label):
            if row.label in earlier:  # itself, or compared the other way round already
                continue
            entries += _pair(table, row, base)
    return entries


def _rows(table: SeededTable, name: str) -> list[SeededRow]:
    exact = [row for row in table.rows if row.label == name]
    return exact or sorted(
        (row for row in table.rows if row.method == name), key=lambda row: row.label
    )


def _pair(table: SeededTable, row: SeededRow, base: SeededRow) -> list[Effect]:
    pairs: dict[str, dict[Seeds, tuple[float, float]]] = {}
    for column in table.columns:
        common = paired_values(row, base, column)
        if common:
            pairs[column] = common
    place = (table.place, table.short, table.recipe, table.distinction, row.label, base.label)
    entries = [_effect(place, column, list(values.values())) for column, values in pairs.items()]
    whole = set.intersection(*(set(values) for values in pairs.values())) if pairs else set()
    if len(pairs) > 1 and whole:
        means = [
            (
                fmean(of[seeds][0] for of in pairs.values()),
                fmean(of[seeds][1] for of in pairs.values()),
            )
            for seeds in sorted(whole, key=repr)
        ]
        entries.append(_effect(place, OVER_STUDENTS, means))
    return entries


def _effect(place: Place, student: str, pairs: Sequence[tuple[float, float]]) -> Effect:
    difference = paired_difference([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    return Effect(*place, student, difference)
