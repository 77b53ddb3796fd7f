"""Fold results into tables: what may stand side by side, what may be averaged, and in which order."""

import functools
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results.identity import comparable
from benchmarks.results.records import Result
from ddoq.storage.fingerprints import hash_config

RANDOM, FULL = (
    "random",
    "full",
)  # methods that every table is measured against, from below and above


@dataclass(frozen=True)
class Score:
    """Mean over seeds.

    Attributes:
        mean: Arithmetic mean.
        std: Sample standard deviation (divisor n - 1); None for a single value.
        n: Number of values.

    Example:
        >>> Score.of([0.5, 0.7]).std is not None, Score.of([0.5]).std
        (True, None)
    """

    mean: float
    std: float | None
    n: int

    @functools.cached_property
    def interval(self) -> tuple[float, float] | None:
        r"""Return the 95 % interval of the mean by Student's t, or None for a single value.

        .. math:: \bar x \pm t_{n-1,\,0.975} \; s / \sqrt{n}

        It takes the values as independent draws, and it is not cut off at 0 or 1.

        Example:
            >>> low, high = Score.of([0.5, 0.7]).interval
            >>> round(low, 2), round(high, 2)  # 0.6 -+ 12.706 * 0.1
            (-0.67, 1.87)
        """
        if self.std is None:
            return None
        if self.std == 0:
            return self.mean, self.mean
        from scipy.special import stdtrit  # 0.3 s, which other commands should not wait for

        reach = float(stdtrit(self.n - 1, 0.975)) * self.std / math.sqrt(self.n)
        return self.mean - reach, self.mean + reach

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """Average values; their order does not matter, not even in the last bit."""
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), std, len(values))

    def percent(self) -> str:
        """Write a fraction in percent, with its spread and the number of seeds.

        Example:
            >>> Score.of([0.5]).percent(), Score.of([0.5, 0.52]).percent()
            ('50.0 (n=1)', '51.0 ± 1.4 (n=2)')
        """
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{spread} (n={self.n})"

    def percent_interval(self) -> str:
        """Write the 95 % interval of a fraction in percent; nothing for a single value.

        Example:
            >>> Score.of([0.5]).percent_interval(), Score.of([0.5, 0.52]).percent_interval()
            ('', '38.3 to 63.7')
        """
        if self.interval is None:
            return ""
        low, high = self.interval
        return f"{100 * low:.1f} to {100 * high:.1f}"


@dataclass(frozen=True)
class Row:
    """A method with fixed settings in one table.

    Attributes:
        method: Its name, e.g. ``ddoq``.
        label: Its name with the settings that tell it from other rows of the method.
        cells: Results by student; they differ in seeds alone.
    """

    method: str
    label: str
    cells: Mapping[str, list[Result]]

    @property
    def results(self) -> list[Result]:
        """All results of the row."""
        return [result for results in self.cells.values() for result in results]

    def score(self, column: str, value: Callable[[Result], float] | None = None) -> Score | None:
        """Average a cell over its seeds.

        Args:
            column: The student.
            value: What to average; top-1 after the last epoch where omitted.

        Returns:
            The score, or None where the student was not run.
        """
        results = self.cells.get(column, [])
        value = value or (lambda result: result.metrics.top1_last)
        return Score.of([value(result) for result in results]) if results else None

    def mean(
        self, columns: Iterable[str], value: Callable[[Result], float] | None = None
    ) -> float | None:
        """Average over students, or None where one of them is missing: such means do not compare."""
        scores = [self.score(column, value) for column in columns]
        if any(score is None for score in scores):
            return None
        return statistics.fmean(score.mean for score in scores if score is not None)


@dataclass(frozen=True)
class Table:
    """Rows that were made under equal conditions.

    Attributes:
        dataset: Name of the dataset.
        ipc: Images per class.
        recipe: Label of the recipe.
        labels: Where labels came from: ``online`` or ``hard``.
        distinction: What tells it from another table of the same heading; mostly empty.
        data: Description of the dataset.
        recipe_fields: All values of the recipe.
        columns: Students.
        rows: The best first; rows that lack a student come last.
    """

    dataset: str
    ipc: int
    recipe: str
    labels: str
    distinction: str
    data: Mapping[str, Any]
    recipe_fields: Mapping[str, Any]
    columns: list[str]
    rows: list[Row]

    @property
    def results(self) -> list[Result]:
        """All results of the table, in a fixed order."""
        return in_order(result for row in self.rows for result in row.results)

    @property
    def is_full(self) -> bool:
        """Whether it holds nothing but students trained on all real images."""
        return all(row.method == FULL for row in self.rows)

    @property
    def lacks_random(self) -> bool:
        """Whether random selection is missing from rows that have to beat it."""
        return not self.is_full and all(row.method != RANDOM for row in self.rows)

    @property
    def learns_targets(self) -> bool:
        """Whether students learn targets that came with a set, which real images do not have."""
        return self.labels == "set"

    @property
    def budget(self) -> str:
        """Say how many images a class has."""
        return budget(self.ipc, full=self.is_full)


def budget(ipc: int, *, full: bool = False) -> str:
    """Say how many images a class has.

    Args:
        ipc: Images of the largest class.
        full: Whether these are all real images.

    Example:
        >>> budget(10), budget(150, full=True)
        ('10 images per class', 'all training images (up to 150 per class)')
    """
    return f"all training images (up to {ipc} per class)" if full else f"{ipc} images per class"


def in_order(results: Iterable[Result]) -> list[Result]:
    """Sort results by what they are called, then by configuration."""

    def key(result: Result) -> tuple[Any, ...]:
        cell = result.cell
        first = (cell.dataset, cell.ipc, cell.recipe, cell.method, cell.student)
        distill_seed = -1 if cell.distill_seed is None else cell.distill_seed
        return (*first, distill_seed, cell.seed, result.config_hash)

    return sorted(results, key=key)


def fold(results: Iterable[Result]) -> list[Table]:
    """Fold results into tables.

    One table holds one dataset (with its limits, size and contents), one number of images per class and one
    recipe (with every value of it, so with its kind of labels). One row holds one method with one set of
    settings, prior, teacher, precision and number of ranks. Only seeds are averaged.

    A learning rate that came with a set (``lr: set``) is a part of that set: such rows stand in the table of the recipe
    that is equal in all else, where there is one, and only one.

    Args:
        results: In any order; the order changes nothing.

    Returns:
        Tables by dataset, images per class and recipe.
    """
    groups = _join_learned_rates(grouped(in_order(results), _conditions))
    headings = grouped(groups, lambda group: _heading(group[0]))
    tables = []
    for same in headings:
        distinctions = distinguish([_conditions(group[0]) for group in same])
        tables += [_table(group, text) for group, text in zip(same, distinctions, strict=True)]
    return sorted(tables, key=lambda t: (t.dataset, t.ipc, t.recipe, t.labels, t.distinction))


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> list[list[Any]]:
    """Group items of equal keys (JSON values), in the order of their first."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(hash_config(key(item)), []).append(item)
    return list(groups.values())


def _heading(result: Result) -> tuple[Any, ...]:
    return (result.cell.dataset, result.cell.ipc, result.cell.recipe, _labels(result))


def _labels(result: Result) -> str:
    return str((result.config.get("recipe") or {}).get("labels", "unknown"))


def _conditions(result: Result) -> dict[str, Any]:
    """Return what all rows of a table share."""
    config = result.config
    shared = {"data": config.get("data"), "recipe": config.get("recipe")}
    return {**shared, "heading": list(_heading(result))}


def variant(result: Result) -> dict[str, Any]:
    """Return what tells a row from others of its table: the whole configuration but seeds, student and conditions."""
    shared = ("data", "recipe", "student", "seed")
    rest = {k: value for k, value in comparable(result.config).items() if k not in shared}
    distilled = dict(rest.get("distilled") or {})
    distilled.pop("seed", None)
    if distilled.get("settings") is not None:  # else only its contents tell a set from another
        distilled["settings"] = {k: v for k, v in distilled["settings"].items() if k != "seed"}
        distilled.pop("fingerprint", None)
    # Students that were trained on several ranks took part in another experiment.
    if "evaluation" in rest:  # says their number, too
        rest["evaluation"] = {k: v for k, v in rest["evaluation"].items() if k != "world_size"}
    learned = {"lr": "set"} if learns_rate(result) else {}
    return {**rest, **learned, "distilled": distilled, "world_size": result.cost.get("world_size")}


def learns_rate(result: Result) -> bool:
    """Say whether the student started from the learning rate that came with its set."""
    return (result.config.get("recipe") or {}).get("lr") == "set"


def _join_learned_rates(groups: list[list[Result]]) -> list[list[Result]]:
    """Put the results of one recipe at learned rates behind those at the one rate of its own."""

    def but_the_rate(group: list[Result]) -> list[Any]:
        first = group[0]
        recipe = first.config.get("recipe") or {}
        rest = {key: value for key, value in recipe.items() if key not in ("lr", "changed")}
        return [first.cell.dataset, first.cell.ipc, first.config.get("data"), rest]

    joined = []
    for same in grouped(groups, but_the_rate):
        learned = [group for group in same if learns_rate(group[0])]
        others = [group for group in same if not learns_rate(group[0])]
        if len(others) == 1:
            joined.append([result for group in (*others, *learned) for result in group])
        else:
            joined += same
    return joined


def _table(results: list[Result], distinction: str) -> Table:
    first = results[0]
    columns = named(grouped(results, student_of), lambda r: r.cell.student, student_of)
    column_of = {result.config_hash: label for label, group in columns for result in group}
    rows = []
    for label, group in named(grouped(results, _method), lambda r: r.cell.method, variant):
        cells: dict[str, list[Result]] = {}
        for result in group:
            cells.setdefault(column_of[result.config_hash], []).append(result)
        rows.append(Row(group[0].cell.method, label, cells))
    names = sorted(label for label, _ in columns)
    return Table(
        dataset=first.cell.dataset,
        ipc=first.cell.ipc,
        recipe=first.cell.recipe,
        labels=_labels(first),
        distinction=distinction,
        data=first.config.get("data") or {},
        recipe_fields=first.config.get("recipe") or {},
        columns=names,
        rows=sorted(rows, key=lambda row: _rank(row, names)),
    )


def student_of(result: Result) -> dict[str, Any]:
    """Return what tells a student from others."""
    return {"label": result.cell.student, "student": comparable(result.config).get("student")}


def _method(result: Result) -> dict[str, Any]:
    return {"method": result.cell.method, **variant(result)}


def named(
    groups: list[list[Result]],
    name: Callable[[Result], str],
    details: Callable[[Result], Mapping[str, Any]],
) -> list[tuple[str, list[Result]]]:
    """Name groups; those of equal names also by what tells them apart."""
    labelled = []
    for same in grouped(groups, lambda group: name(group[0])):
        distinctions = distinguish([details(group[0]) for group in same])
        for distinction, group in zip(distinctions, same, strict=True):
            suffix = f" [{distinction}]" if distinction else ""
            labelled.append((name(group[0]) + suffix, group))
    return labelled


def _rank(row: Row, columns: list[str]) -> tuple[bool, float, str]:
    mean = row.mean(columns)
    present = [score.mean for column in columns if (score := row.score(column))]
    return (mean is None, -statistics.fmean(present), row.label)


def distinguish(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in what each item differs from the others.

    Args:
        items: Nested mappings of JSON values.

    Returns:
        A text for each; empty where there is nothing to tell. What an item lacks is left out of its
        text, and named as absent where nothing else is left.

    Example:
        >>> distinguish([{"a": {"power": 1.0, "k": 2}}, {"a": {"power": 0.5, "k": 2}}])
        ['power=1.0', 'power=0.5']
        >>> distinguish([{"power": 1.0}, {"power": 1.0, "faithful": True}])
        ['faithful=absent', 'faithful=true']
        >>> distinguish([{"power": 1.0}, {"power": 0.5, "faithful": True}])
        ['power=1.0', 'faithful=true, power=0.5']
    """
    flat = [_leaves(item) for item in items]
    keys = sorted({key for leaves in flat for key in leaves})
    differing = [key for key in keys if len({leaves.get(key) for leaves in flat}) > 1]
    # An empty mapping beside a filled one: the entries of the filled one say it all.
    differing = [key for key in differing if not any(k.startswith(f"{key}.") for k in differing)]
    short = [key.rpartition(".")[2] for key in differing]
    shown = {
        key: last if short.count(last) == 1 else key
        for key, last in zip(differing, short, strict=True)
    }
    texts = []
    for leaves in flat:
        told = [key for key in differing if key in leaves] or differing
        texts.append(
            ", ".join(f"{shown[key]}={leaves.get(key, 'absent').strip(chr(34))}" for key in told)
        )
    return texts


def _leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    leaves = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            leaves.update(_leaves(item, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = json.dumps(item, sort_keys=True, ensure_ascii=False)
    return leaves
