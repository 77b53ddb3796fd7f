"""What every layout of a table tells of a row besides its accuracies: seeds and further numbers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.results.columns import flat, tells_top5
from benchmarks.results.records import Result
from benchmarks.tables.folding import Row, Score, Table, in_order


@dataclass(frozen=True)
class Further:
    """A column of further numbers.

    Attributes:
        heading: Its name.
        value: Takes a row and the students of its table; None where the number is unknown.
        spec: How the number is written, e.g. ``.1f``.
        beside: Heading of another column: shown only where some row's number differs from that one.
    """

    heading: str
    value: Callable[[Row, list[str]], float | None]
    spec: str
    beside: str | None = None

    def text(self, row: Row, columns: list[str]) -> str:
        """Write the number, or nothing where it is unknown."""
        value = self.value(row, columns)
        return "" if value is None else format(value, self.spec)


def seeds_that_vary(row: Row) -> str:
    """Say which seeds vary in a row, and which do not."""
    return seeds_text((result.cell.seed, result.cell.distill_seed) for result in row.results)


def seeds_text(seeds: Iterable[tuple[int, int | None]]) -> str:
    """Say which of some pairs of seeds, of student and distillation, vary.

    Example:
        >>> seeds_text([(0, 7), (1, 7)])
        'student varies (student 0, 1; distillation 7)'
    """
    pairs = set(seeds)
    student = sorted({seed for seed, _ in pairs})
    distillation = sorted({seed for _, seed in pairs if seed is not None})
    vary = [
        name
        for name, values in (("distillation", distillation), ("student", student))
        if len(values) > 1
    ]
    summary = (
        " and ".join(vary) + (" vary" if len(vary) > 1 else " varies") if vary else "none varies"
    )
    numbers = ", ".join(map(str, student))
    numbers += "; distillation " + (", ".join(map(str, distillation)) or "unknown")
    return f"{summary} (student {numbers})"


def _accuracy(name: str) -> Callable[[Row, list[str]], float | None]:
    def percent(row: Row, columns: list[str]) -> float | None:
        mean = row.mean(columns, lambda result: float(getattr(result.metrics, name)))
        return None if mean is None else 100 * mean

    return percent


def _top5(row: Row, columns: list[str]) -> float | None:
    return _accuracy("top5_last")(row, columns) if tells_top5(row.results[0]) else None


def _known(name: str, *, factor: float = 1, by_set: bool = True) -> Callable[..., float | None]:
    """Average a column over the results that have it, one per distilled set where the set decides it."""

    def mean(row: Row, columns: list[str]) -> float | None:
        values = {}
        for index, result in enumerate(in_order(row.results)):
            value = flat(result)[name]
            if value is not None:
                values[_set_fingerprint(result) if by_set else index] = float(value)
        return factor * Score.of(list(values.values())).mean if values else None

    return mean


def _set_fingerprint(result: Result) -> str | None:
    return result.distilled.get("fingerprint")


FURTHER = (
    Further("best top-1 (chosen on the test set)", _accuracy("top1_best"), ".1f"),
    Further("top-5", _top5, ".1f"),
    Further("teacher on distilled images", _known("teacher_accuracy_distilled", factor=100), ".1f"),
    Further("W2, cell masses", _known("w2_masses"), ".4g"),
    Further("W2, uniform weights", _known("w2_uniform"), ".4g"),
    Further("effective ipc", _known("distilled_effective_ipc"), ".3g"),
    Further("images", _known("distilled_images"), "g"),
    Further("images seen", _known("distilled_decoded_images"), "g", beside="images"),
    Further("image MB", _known("distilled_bytes", factor=1e-6), ".2f"),
    Further("set MB", _known("distilled_stored_bytes", factor=1e-6), ".2f", beside="image MB"),
    Further("set MB, 8 bit", _known("distilled_uint8_bytes", factor=1e-6), ".2f"),
    Further("set MB, float", _known("distilled_float_bytes", factor=1e-6), ".2f"),
    Further("label MB", _known("label_bytes", factor=1e-6), ".2f"),
    Further("s to distil", _known("distilled_seconds"), ".1f"),
    Further("s for ingredients, once", _known("ingredient_seconds"), ".1f"),
    Further("peak MB to distil", _known("distilled_peak_resident_bytes", factor=1e-6), ".0f"),
    Further("peak MB of GPU", _known("distilled_peak_cuda_bytes", factor=1e-6), ".0f"),
    Further("s to train", _known("seconds", by_set=False), ".1f"),
    Further("TFLOP to distil", _known("distilled_flops", factor=1e-12), ".4g"),
    Further("TFLOP to train", _known("flops", factor=1e-12, by_set=False), ".4g"),
)


def known_further(table: Table) -> list[Further]:
    """Return the further columns that some row of a table has a number for, in order."""
    by_heading = {column.heading: column for column in FURTHER}

    def tells(column: Further, row: Row) -> bool:
        value = column.value(row, table.columns)
        if value is None or column.beside is None:
            return value is not None
        return value != by_heading[column.beside].value(row, table.columns)

    return [column for column in FURTHER if any(tells(column, row) for row in table.rows)]
