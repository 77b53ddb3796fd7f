"""What counts as the same over several tables: rows, circumstances, recipes, and the ceiling of a table."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.results.identity import comparable
from benchmarks.results.records import Result
from benchmarks.tables.folding import FULL, Row, Table, distinguish, grouped, student_of, variant
from ddoq.storage.fingerprints import hash_config


def circumstances(result: Result) -> dict[str, Any]:
    """Return under what a student was trained besides dataset, recipe and set: what scores over tables must share."""
    known = {key: comparable(result.config).get(key) for key in ("format", "teacher", "precision")}
    return {**known, "world_size": result.cost.get("world_size")}


def identity(result: Result) -> dict[str, Any]:
    """Return what tells a row from others over all datasets and recipes: method, its settings, circumstances."""
    method = {"method": result.cell.method, "distilled": variant(result)["distilled"]}
    return {**method, **circumstances(result)}


def same_recipe(table: Table) -> str:
    """Return a hash of every value of a table's recipe."""
    return hash_config([table.recipe, table.recipe_fields])


def name_recipes(tables: Sequence[Table]) -> list[str]:
    """Name the recipes of tables, those of equal labels also by what tells them apart.

    Args:
        tables: In any order.

    Returns:
        A name for each table; equal for equal recipes.
    """
    names = [""] * len(tables)
    for same in grouped(range(len(tables)), lambda number: tables[number].recipe):
        distinctions = distinguish([tables[number].recipe_fields for number in same])
        for number, text in zip(same, distinctions, strict=True):
            names[number] = tables[number].recipe + (f" ({text})" if text else "")
    return names


def ceilings(table: Table, tables: Iterable[Table]) -> list[Row]:
    """Find the students that were trained on all real images under the conditions of a table.

    Args:
        table: Rows with a budget.
        tables: Where to look: tables of any number of images per class.

    Returns:
        Rows of the method ``full`` with the table's dataset and recipe, in every value, with its students and with
        teacher, precision and ranks of one of its rows; none that the table itself holds.
    """
    known = {hash_config(circumstances(row.results[0])) for row in table.rows}
    students = {
        hash_config(student_of(result)): column
        for row in table.rows
        for column, results in row.cells.items()
        for result in results
    }
    rows = []
    for other in tables:
        if other.ipc == table.ipc or hash_config(other.data) != hash_config(table.data):
            continue
        if same_recipe(other) != same_recipe(table):
            continue
        for row in (row for row in other.rows if row.method == FULL):
            if hash_config(circumstances(row.results[0])) not in known:
                continue
            cells = {
                column: results
                for results in row.cells.values()
                if (column := students.get(hash_config(student_of(results[0]))))
            }
            if cells:
                rows.append(Row(row.method, row.label, cells))
    return sorted(rows, key=lambda row: row.label)
