"""Tables that differ in nothing but the images per class: what one curve over the budget may join."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.results.records import Result
from benchmarks.tables.folding import Row, Table, fold, in_order


@dataclass(frozen=True)
class Group:
    """Tables of one dataset and one recipe, with the same students and names of rows in all of them.

    Attributes:
        whole: All rows together; a row spans every number of images per class that it was run with.
        tables: One per number of images per class, in rising order.
    """

    whole: Table
    tables: list[Table]

    @property
    def budgets(self) -> list[int]:
        """The numbers of images per class."""
        return [table.ipc for table in self.tables]

    def row(self, table: Table, label: str) -> Row | None:
        """Return the row of that name in one of the tables, if it is there."""
        return next((row for row in table.rows if row.label == label), None)


def group(results: Iterable[Result]) -> list[Group]:
    """Fold results into tables, and join those that differ in the number of images per class alone.

    A row keeps its name over all tables of a group, so two settings of a method never share a curve. An imported
    set is told from another by its contents alone, so each is a row of its own.

    Args:
        results: In any order; the order changes nothing.

    Returns:
        Groups by dataset and recipe.
    """
    originals = in_order(results)
    copies = [_without_budget(result) for result in originals]
    original = {id(copy): result for copy, result in zip(copies, originals, strict=True)}
    groups = []
    for whole in fold(copies):
        rows = [
            Row(
                row.method,
                row.label,
                {c: [original[id(r)] for r in row.cells[c]] for c in row.cells},
            )
            for row in whole.rows
        ]
        budgets = sorted({result.cell.ipc for row in rows for result in row.results})
        whole = replace(whole, rows=rows)
        groups.append(Group(whole, [_at(whole, ipc) for ipc in budgets]))
    return groups


def _without_budget(result: Result) -> Result:
    """Copy a result so that the number of images per class no longer tells it from others."""
    config: dict[str, Any] = dict(result.config)
    distilled = {key: item for key, item in (config.get("distilled") or {}).items() if key != "ipc"}
    if distilled.get("settings") is not None:
        distilled["settings"] = {
            key: item for key, item in distilled["settings"].items() if key != "ipc"
        }
    config["distilled"] = distilled
    return replace(result, cell=replace(result.cell, ipc=0), config=config)


def _at(whole: Table, ipc: int) -> Table:
    """Take the rows of one number of images per class, the best first, those that lack a student last."""
    rows = []
    for row in whole.rows:
        cells = {c: [r for r in results if r.cell.ipc == ipc] for c, results in row.cells.items()}
        cells = {column: results for column, results in cells.items() if results}
        if cells:
            rows.append(Row(row.method, row.label, cells))
    columns = [column for column in whole.columns if any(column in row.cells for row in rows)]

    def rank(row: Row) -> tuple[bool, float, str]:
        mean, present = row.mean(columns), row.mean([c for c in columns if c in row.cells])
        return mean is None, -(present or 0.0), row.label

    return replace(whole, ipc=ipc, columns=columns, rows=sorted(rows, key=rank))
