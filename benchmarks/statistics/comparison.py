"""Is one method better than another? Paired differences over seeds, with intervals and p-values."""

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results.files import read_results
from benchmarks.results.graphs import GRAPHS
from benchmarks.results.transfers import TRANSFERS
from benchmarks.statistics.seeded import (
    SeededRow,
    SeededTable,
    Seeds,
    seeded,
    seeded_graphs,
    seeded_transfers,
)
from benchmarks.tables.folding import fold
from ddoq.errors import UserError, suggest
from ddoq.escaping import markdown, markdown_table


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences with its uncertainty.

    Attributes:
        mean: Arithmetic mean.
        low: Lower end of the interval; None for a single pair.
        high: Upper end of the interval; None for a single pair.
        p_value: Two-sided, of the hypothesis that the mean is 0; None for a single pair.
        n: Number of pairs.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    n: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Difference:
    r"""Compare two methods on the same seeds by Student's paired t-test.

    With differences :math:`d_i = a_i - b_i` of mean :math:`\bar d` and sample standard deviation :math:`s`,

    .. math:: \bar d \pm t_{n-1,\,(1+c)/2} \; s / \sqrt{n} .

    Args:
        first: Values of one method.
        second: Values of the other on the same seeds, in the same order.
        confidence: Coverage c of the interval, in (0, 1).

    Returns:
        The difference; without an interval where there is one pair, and with p-value 1 or 0 where all
        differences are equal.

    Raises:
        ValueError: If the lengths differ or are 0.

    Example:
        >>> round(paired_difference([0.6, 0.7, 0.8], [0.5, 0.6, 0.6]).mean, 3)
        0.133
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    if not differences:
        raise ValueError("There must be at least one pair.")
    mean, n = statistics.fmean(differences), len(differences)
    if n == 1:
        return Difference(mean, None, None, None, 1)
    error = statistics.stdev(differences) / math.sqrt(n)
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    from scipy.stats import t as student  # half a second, which other commands should not wait for

    reach = _quantile((1 + confidence) / 2, n - 1) * error
    p_value = 2 * float(student.sf(abs(mean / error), n - 1))
    return Difference(mean, mean - reach, mean + reach, p_value, n)


@functools.cache
def _quantile(share: float, freedom: int) -> float:
    """Return a quantile of Student's t: a report asks for the same few a thousand times."""
    from scipy.stats import t as student

    return float(student.ppf(share, freedom))


def _find(table: SeededTable, name: str) -> SeededRow:
    exact = [row for row in table.rows if row.label == name]
    rows = exact or [row for row in table.rows if row.method == name]
    if len(rows) == 1:
        return rows[0]
    labels = [row.label for row in table.rows]
    where = f"{table.place}, {table.recipe}"
    if rows:
        raise UserError(
            f"Several rows of {where} are called {name!r}; give one of: "
            f"{'; '.join(row.label for row in rows)}."
        )
    raise UserError(f"No row of {where} is called {name!r}. {suggest(name, labels)}")


def paired_values(
    first: SeededRow, second: SeededRow, column: str
) -> dict[Seeds, tuple[float, float]]:
    """Pair the values of two rows for one student on the seeds that both have.

    Args:
        first: A row.
        second: Another row of the same table.
        column: The student.

    Returns:
        Values of both rows, by seeds, in a fixed order.
    """
    ours, theirs = (dict(row.values.get(column, [])) for row in (first, second))
    return {
        seeds: (ours[seeds], theirs[seeds]) for seeds in sorted(set(ours) & set(theirs), key=repr)
    }


def compare(table: SeededTable, first: str, second: str) -> list[tuple[str, Difference]]:
    """Compare two rows of a table, student by student, on the seeds that both have.

    Args:
        table: One dataset, one budget, one recipe.
        first: Label of a row, or its method where only one row has it.
        second: The other row.

    Returns:
        Student and difference of the values, for students with a common seed.

    Raises:
        UserError: If a row is not there, or not to be told from another.
    """
    a, b = _find(table, first), _find(table, second)
    differences = []
    for column in table.columns:
        pairs = list(paired_values(a, b, column).values())
        if pairs:
            difference = paired_difference([x for x, _ in pairs], [y for _, y in pairs])
            differences.append((column, difference))
    return differences


def interval_text(difference: Difference) -> str:
    """Write the interval of a difference in points; nothing where there is none.

    Example:
        >>> interval_text(Difference(0.01, -0.005, 0.025, 0.2, 3))
        '-0.50 to +2.50'
    """
    if difference.low is None or difference.high is None:
        return ""
    return f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"


def _line(student: str, d: Difference) -> list[str]:
    p_value = "" if d.p_value is None else f"{d.p_value:.3f}"
    return [student, f"{100 * d.mean:+.2f}", interval_text(d), p_value, str(d.n)]


def comparison(folder: Path, first: str, second: str) -> str:
    """Compare two methods in every table that has both, as Markdown.

    Args:
        folder: Result files.
        first: Label or method.
        second: Label or method.

    Returns:
        One table for each dataset, budget and recipe; those of transfer and of graphs come last.

    Raises:
        UserError: If no table has both.
    """
    results, problems = read_results(folder)
    transfers, damaged = TRANSFERS.read_all(folder)
    graphs, spoiled = GRAPHS.read_all(folder)
    problems = [*problems, *damaged, *spoiled]
    blocks = [f"Left out: {problem}" for problem in problems]
    mistakes = []
    for table in (*seeded(fold(results)), *seeded_transfers(transfers), *seeded_graphs(graphs)):
        try:
            lines = [_line(*entry) for entry in compare(table, first, second)]
        except UserError as error:
            mistakes.append(str(error))
            continue
        headers = ["student", "difference", "95 % interval", "p", "seeds"]
        blocks.append(
            markdown(f"## {first} minus {second}: {table.place}, {table.heading}")
            + f"\n\n{table.measure}, in points; paired by seeds, Student's t.\n\n"
            + markdown_table(headers, lines)
        )
    if len(blocks) == len(problems):
        raise UserError(" ".join(mistakes) or f"{folder} has no results.")
    return "\n\n".join(blocks)
