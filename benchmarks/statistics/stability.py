"""Do methods keep their ranks when the recipe changes? Kendall's tau between recipes, best and worst ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from benchmarks.results.records import Result
from benchmarks.tables.folding import (
    FULL,
    Row,
    Table,
    distinguish,
    grouped,
    in_order,
    named,
    student_of,
)
from benchmarks.tables.matching import identity, name_recipes
from ddoq.storage.fingerprints import hash_config


@dataclass(frozen=True)
class Agreement:
    """How far two recipes agree on the order of methods.

    Attributes:
        first: Label of a recipe.
        second: Label of the other.
        methods: Labels of the rows that both have.
        students: Labels of the students whose mean was ranked.
        tau: Kendall's tau-b; None where one of the recipes puts all methods on one rank.
    """

    first: str
    second: str
    methods: tuple[str, ...]
    students: tuple[str, ...]
    tau: float | None


@dataclass(frozen=True)
class Stability:
    """The ranks of methods over the recipes of one dataset and number of images per class.

    Attributes:
        dataset: Name of the dataset.
        distinction: What tells it from another description of the same dataset; mostly empty.
        ipc: Images per class.
        recipes: Labels of the recipes that take part.
        students: Students that all ranked rows have under all recipes.
        ranks: For each row that all recipes have, its rank under each; empty where they share no two rows and a student.
        agreements: Every pair of recipes that shares two rows and a student.
    """

    dataset: str
    distinction: str
    ipc: int
    recipes: tuple[str, ...]
    students: tuple[str, ...]
    ranks: Mapping[str, tuple[int, ...]]
    agreements: tuple[Agreement, ...]


def ranks(scores: Sequence[float]) -> list[int]:
    """Rank scores, the highest first; equal ones share the better rank.

    Args:
        scores: Any numbers.

    Returns:
        Ranks from 1 on.

    Example:
        >>> ranks([0.2, 0.9, 0.5, 0.5])
        [4, 1, 2, 2]
    """
    return [1 + sum(other > score for other in scores) for score in scores]


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    r"""Return Kendall's tau-b of two scores of the same items.

    .. math:: \tau_b = \frac{C - D}{\sqrt{(C + D + T_1) (C + D + T_2)}}

    with :math:`C` concordant and :math:`D` discordant pairs, and :math:`T_i` pairs that are tied in score i alone.

    Args:
        first: At least two numbers.
        second: As many.

    Returns:
        A number in [-1, 1]; None where all items are tied in one of the scores.

    Raises:
        ValueError: If the lengths differ or are below 2.

    Example:
        >>> kendall_tau([3, 2, 1], [0.9, 0.5, 0.1]), kendall_tau([1, 2], [2, 1]), kendall_tau([1, 1], [1, 2])
        (1.0, -1.0, None)
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError("There must be two numbers or more, as many of the one as of the other.")
    if len(set(first)) == 1 or len(set(second)) == 1:
        return None
    from scipy.stats import kendalltau  # most of a second, which other commands should not wait for

    return round(float(kendalltau(list(first), list(second)).statistic), 12)


def stability(tables: Sequence[Table]) -> list[Stability]:
    """Compare the order of methods under the recipes of each dataset and number of images per class.

    Rows are the same where method, settings, prior, teacher, precision and ranks are; the ceiling ``full`` takes no part. A
    method's score is its mean over the students that all compared rows have under all compared recipes.

    Args:
        tables: Of :func:`benchmarks.tables.folding.fold`.

    Returns:
        An entry for each dataset and number of images per class with at least two recipes that share at least two rows
        and a student, in the order of the tables.
    """
    entries = []
    for heading in grouped(tables, lambda table: [table.dataset, table.ipc]):
        datasets = grouped(heading, lambda table: table.data)
        distinctions = distinguish([same[0].data for same in datasets])
        for distinction, same in zip(distinctions, datasets, strict=True):
            entry = _compare(same, distinction)
            if entry is not None:
                entries.append(entry)
    return entries


# Mean accuracies over seeds by row and student, both by the hash of what they are under any recipe.
_Scores = Mapping[str, Mapping[str, float]]


def _compare(tables: Sequence[Table], distinction: str) -> Stability | None:
    cells = [
        results[0] for table in tables for row in _rows(table) for results in row.cells.values()
    ]
    rows = _names(cells, lambda result: result.cell.method, identity)
    students = _names(cells, lambda result: result.cell.student, student_of)
    recipes = name_recipes(tables)
    scores = [_scores(table) for table in tables]
    agreements: list[Agreement] = []
    part: set[int] = set()
    for i, j in combinations(range(len(tables)), 2):
        common = _shared([scores[i], scores[j]])
        if common:
            tau = kendall_tau(_means(scores[i], *common), _means(scores[j], *common))
            methods = tuple(sorted(rows[key] for key in common[0]))
            seen = tuple(sorted(students[key] for key in common[1]))
            agreements.append(Agreement(recipes[i], recipes[j], methods, seen, tau))
            part |= {i, j}
    if not agreements:
        return None
    common = _shared([scores[k] for k in sorted(part)])
    ranked: dict[str, tuple[int, ...]] = {}
    if common:
        by_recipe = [ranks(_means(scores[k], *common)) for k in sorted(part)]
        whole = {rows[key]: tuple(r[n] for r in by_recipe) for n, key in enumerate(common[0])}
        ranked = dict(sorted(whole.items(), key=lambda item: (sum(item[1]), item[0])))
    return Stability(
        dataset=tables[0].dataset,
        distinction=distinction,
        ipc=tables[0].ipc,
        recipes=tuple(recipes[k] for k in sorted(part)),
        students=tuple(sorted(students[key] for key in common[1])) if common else (),
        ranks=ranked,
        agreements=tuple(agreements),
    )


def _rows(table: Table) -> list[Row]:
    return [row for row in table.rows if row.method != FULL]


def _names(
    cells: Sequence[Result],
    name: Callable[[Result], str],
    details: Callable[[Result], dict[str, Any]],
) -> dict[str, str]:
    """Name what the cells are by its hash, the same over all recipes."""
    groups = named(grouped(in_order(cells), details), name, details)
    return {hash_config(details(group[0])): label for label, group in groups}


def _scores(table: Table) -> _Scores:
    scores: dict[str, dict[str, float]] = {}
    for row in _rows(table):
        of_row = scores.setdefault(hash_config(identity(row.results[0])), {})
        for column, results in row.cells.items():
            score = row.score(column)
            assert score is not None
            of_row[hash_config(student_of(results[0]))] = score.mean
    return scores


def _shared(scores: Sequence[_Scores]) -> tuple[list[str], list[str]] | None:
    """Return rows that all recipes have, and students that all these rows have; None for fewer than 2 or 1."""
    rows = sorted(set.intersection(*(set(of) for of in scores)))
    if len(rows) < 2:
        return None
    students = sorted(set.intersection(*(set(of[row]) for of in scores for row in rows)))
    return (rows, students) if students else None


def _means(scores: _Scores, rows: Sequence[str], students: Sequence[str]) -> list[float]:
    return [fmean(scores[row][student] for student in students) for row in rows]
