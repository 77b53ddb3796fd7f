"""Results that have a kind of their own, folded into tables: only seeds are averaged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from benchmarks.results.columns import flat_sealed
from benchmarks.results.sealed import Kind, Record
from benchmarks.tables.folding import Score, distinguish, grouped
from ddoq.escaping import csv_text


@dataclass(frozen=True)
class SealedRow(Generic[Record]):
    """A method with fixed settings in one table.

    Attributes:
        method: Its name.
        label: Its name with the settings that tell it from other rows of the method.
        records: They differ in students and seeds alone.
    """

    method: str
    label: str
    records: list[Record]

    def of_student(self, student: str) -> list[Record]:
        """Return the results of one student."""
        return [record for record in self.records if record.cell.student == student]

    def score(self, student: str, field: str) -> Score | None:
        """Average a field of the results of a student over seeds; None where it was not run."""
        values = [getattr(record, field) for record in self.of_student(student)]
        return Score.of(values) if values else None

    def percents(self, students: Sequence[str], fields: Sequence[str]) -> list[str]:
        """Write the scores of all students and fields in percent; empty where there is none."""
        scores = [self.score(student, field) for student in students for field in fields]
        return [score.percent() if score else "" for score in scores]


@dataclass(frozen=True)
class SealedTable(Generic[Record]):
    """Rows that were made under equal conditions.

    Attributes:
        distinction: What tells it from another table of the same heading; mostly empty.
        students: Their labels.
        rows: The best first.
    """

    distinction: str
    students: list[str]
    rows: list[SealedRow[Record]]

    @property
    def first(self) -> Record:
        """One of its results, for what all of them share."""
        return self.rows[0].records[0]

    @property
    def records(self) -> list[Record]:
        """All its results."""
        return [record for row in self.rows for record in row.records]


@dataclass(frozen=True)
class Scheme(Generic[Record]):
    """How the results of a kind are folded.

    Attributes:
        kind: Of the results.
        heading: What a table is called, as JSON values.
        conditions: Keys of the configuration that all results of a table share.
        method: What a row is called.
        variant: What tells a row from others, the method included.
        together: Which rows share a name, and are told apart by what differs in their variants.
        measures: Fields of a result by the heading of their column; rows are ranked by one of them.
        rank: By what rows are sorted, falling.
    """

    kind: Kind[Record]
    heading: Callable[[Record], Sequence[Any]]
    conditions: tuple[str, ...]
    method: Callable[[Record], str]
    variant: Callable[[Record], Mapping[str, Any]]
    together: Callable[[Record], Any]
    measures: Mapping[str, str]
    rank: Callable[[SealedRow[Record], Sequence[str]], float]

    def fold(self, records: Iterable[Record]) -> list[SealedTable[Record]]:
        """Fold results.

        Args:
            records: In any order; the order changes nothing.

        Returns:
            Tables, in no order that means anything; none without results.
        """
        ordered = sorted(records, key=lambda record: record.config_hash)
        groups = grouped(ordered, self._conditions)
        tables = []
        for same in grouped(groups, lambda group: list(self.heading(group[0]))):
            distinctions = distinguish([self._conditions(group[0]) for group in same])
            tables += [
                self._table(group, text) for group, text in zip(same, distinctions, strict=True)
            ]
        return tables

    def _conditions(self, record: Record) -> dict[str, Any]:
        shared = {name: record.config.get(name) for name in self.conditions}
        return {"heading": list(self.heading(record)), **shared}

    def _table(self, records: Sequence[Record], distinction: str) -> SealedTable[Record]:
        students = sorted({record.cell.student for record in records})
        rows: list[SealedRow[Record]] = []
        for same in grouped(grouped(records, self.variant), lambda group: self.together(group[0])):
            suffixes = distinguish([self.variant(group[0]) for group in same])
            for group, suffix in zip(same, suffixes, strict=True):
                method = self.method(group[0])
                rows.append(SealedRow(method, method + (f" [{suffix}]" if suffix else ""), group))
        rows.sort(key=lambda row: (-self.rank(row, students), row.label))
        return SealedTable(distinction, students, rows)


def sealed_csv(records: Sequence[Record], scheme: Scheme[Record]) -> str:
    """Write results as CSV, one line each, unrounded, with the mean over the seeds of its cell in the tables.

    Args:
        records: At least one; the order changes nothing.
        scheme: Of their kind.
    """
    lines = {
        record.config_hash: {**flat_sealed(record), **_cell_columns(row, student, scheme.measures)}
        for table in scheme.fold(records)
        for row in table.rows
        for student in table.students
        for record in row.of_student(student)
    }
    ordered = sorted(records, key=scheme.kind.rank)
    return csv_text(with_equal_keys([lines[record.config_hash] for record in ordered]))


def _cell_columns(
    row: SealedRow[Record], student: str, measures: Mapping[str, str]
) -> dict[str, object]:
    columns: dict[str, object] = {"row": row.label, "cell_n": len(row.of_student(student))}
    for field in measures.values():
        score = row.score(student, field)
        assert score is not None
        low, high = score.interval or (None, None)
        values = {"mean": score.mean, "std": score.std, "low95": low, "high95": high}
        columns |= {f"cell_{field}_{name}": value for name, value in values.items()}
    return columns


def with_equal_keys(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give all lines the keys of all, in the order in which they first come; None where a line lacks one.

    Example:
        >>> with_equal_keys([{"a": 1}, {"b": 2}])
        [{'a': 1, 'b': None}, {'a': None, 'b': 2}]
    """
    keys = dict.fromkeys(key for line in lines for key in line)
    return [{key: line.get(key) for key in keys} for line in lines]
