"""Label-robust and augmentation-robust scores: what a method adds beyond soft labels and augmentation.

The scores are DD-Ranking's (Li et al., *DD-Ranking: Rethinking the Evaluation of Dataset Distillation*, arXiv 2505.13300, and
the repository NUS-HPC-AI-Lab/DD-Ranking). Accuracies are fractions here, as the definitions say: that repository, version
0.2.0, puts percentages into the exponentials.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results.records import Result
from benchmarks.tables.folding import FULL, RANDOM, Row, Table, distinguish, grouped, student_of
from benchmarks.tables.matching import circumstances, identity, name_recipes, same_recipe
from ddoq.storage.fingerprints import hash_config

AUGMENTATION = (
    "crop_scale",
    "flip",
    "cutmix_alpha",
    "color_jitter",
    "pca_lighting",
    "patch_shuffle",
    "pad_crop",
    "mixup_alpha",
)


def hard_label_recovery(full_hard: float, distilled_hard: float) -> float:
    r"""Return how much accuracy a distilled set loses against all real images, both with hard labels; lower is better.

    .. math:: \text{HLR} = \text{acc}(\text{real, hard}) - \text{acc}(\text{distilled, hard})

    Args:
        full_hard: Of a student trained on all real images with hard labels, in [0, 1].
        distilled_hard: Of a student trained on the distilled set with hard labels, in [0, 1].

    Returns:
        A difference in [-1, 1].

    Raises:
        ValueError: If an accuracy is no fraction.

    Example:
        >>> round(hard_label_recovery(0.9, 0.3), 6)
        0.6
    """
    _check(full_hard, distilled_hard)
    return full_hard - distilled_hard


def improvement_over_random(distilled: float, random: float) -> float:
    r"""Return what a distilled set gains over random images under the same recipe; higher is better.

    .. math:: \text{IOR} = \text{acc}(\text{distilled, own recipe}) - \text{acc}(\text{random, own recipe})

    Args:
        distilled: With the method's own labels and recipe, in [0, 1].
        random: Of as many random real images under that recipe, in [0, 1].

    Returns:
        A difference in [-1, 1].

    Raises:
        ValueError: If an accuracy is no fraction.

    Example:
        >>> round(improvement_over_random(0.5, 0.4), 6)
        0.1
    """
    _check(distilled, random)
    return distilled - random


def label_robust_score(
    full_hard: float, distilled_hard: float, distilled: float, random: float, w: float = 0.5
) -> float:
    r"""Return DD-Ranking's label-robust score.

    .. math::
        \alpha = w \, \text{IOR} - (1 - w) \, \text{HLR} \qquad
        \text{LRS} = \frac{e^{\alpha} - e^{-1}}{e - e^{-1}}

    Args:
        full_hard: See :func:`hard_label_recovery`.
        distilled_hard: See :func:`hard_label_recovery`.
        distilled: See :func:`improvement_over_random`.
        random: See :func:`improvement_over_random`.
        w: Share of the improvement over random, in [0, 1].

    Returns:
        A number in [0, 1], higher is better.

    Raises:
        ValueError: If an argument is no fraction.

    Example:
        >>> round(label_robust_score(0.5, 0.5, 0.4, 0.4), 3)  # alpha = 0
        0.269
        >>> round(label_robust_score(0.9, 0.3, 0.5, 0.4), 4)  # alpha = 0.5 * 0.1 - 0.5 * 0.6 = -0.25
        0.1748
    """
    _check(w)
    gain = improvement_over_random(distilled, random)
    return normalised(w * gain - (1 - w) * hard_label_recovery(full_hard, distilled_hard))


def augmentation_robust_score(
    distilled: float, random: float, distilled_plain: float, random_plain: float, g: float = 0.5
) -> float:
    r"""Return DD-Ranking's augmentation-robust score.

    .. math::
        \beta = g \, (\text{acc}_\text{aug}(\text{distilled}) - \text{acc}_\text{aug}(\text{random}))
        + (1 - g) \, (\text{acc}_\text{plain}(\text{distilled}) - \text{acc}_\text{plain}(\text{random})) \qquad
        \text{ARS} = \frac{e^{\beta} - e^{-1}}{e - e^{-1}}

    Args:
        distilled: Under a recipe that augments, in [0, 1].
        random: Of as many random real images under that recipe, in [0, 1].
        distilled_plain: As ``distilled``, under the same recipe without augmentation.
        random_plain: As ``random``, under the same recipe without augmentation.
        g: Share of the recipe that augments, in [0, 1].

    Returns:
        A number in [0, 1], higher is better.

    Raises:
        ValueError: If an argument is no fraction.

    Example:
        >>> round(augmentation_robust_score(0.4, 0.4, 0.3, 0.3), 3)  # beta = 0
        0.269
        >>> round(augmentation_robust_score(0.6, 0.4, 0.3, 0.4), 4)  # beta = 0.5 * 0.2 - 0.5 * 0.1 = 0.05
        0.2908
    """
    _check(g, distilled, random, distilled_plain, random_plain)
    return normalised(g * (distilled - random) + (1 - g) * (distilled_plain - random_plain))


def normalised(value: float) -> float:
    """Map a weighted difference of accuracies from [-1, 1] to [0, 1] as DD-Ranking does.

    Example:
        >>> normalised(-1), normalised(1)
        (0.0, 1.0)
    """
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(*fractions: float) -> None:
    for value in fractions:
        if not 0 <= value <= 1:
            raise ValueError(f"{value!r} is no fraction in [0, 1]")


@dataclass(frozen=True)
class Robustness:
    """The scores of one row and student; None where a result that they need is missing.

    Attributes:
        dataset: Name of the dataset.
        ipc: Images per class.
        recipe: Label of the recipe that is the method's own here.
        distinction: What tells the dataset from another description of it; mostly empty.
        row: Label of the row.
        student: Label of the student.
        hard: Label of the recipe with hard labels, where there is one.
        plain: Label of the recipe without augmentation, where there is one.
        distilled: Accuracy of the row, a mean over seeds, as all accuracies here are.
        random: Of random selection under the same recipe.
        full_hard: Of all real images under the hard recipe.
        distilled_hard: Of the row under the hard recipe.
        distilled_plain: Of the row without augmentation.
        random_plain: Of random selection without augmentation.
        missing: What is missing, or there several times.
    """

    dataset: str
    ipc: int
    recipe: str
    distinction: str
    row: str
    student: str
    hard: str | None
    plain: str | None
    distilled: float
    random: float | None
    full_hard: float | None
    distilled_hard: float | None
    distilled_plain: float | None
    random_plain: float | None
    missing: tuple[str, ...]

    @property
    def ior(self) -> float | None:
        """Improvement over random selection."""
        return None if self.random is None else improvement_over_random(self.distilled, self.random)

    @property
    def hlr(self) -> float | None:
        """Hard-label recovery."""
        if self.full_hard is None or self.distilled_hard is None:
            return None
        return hard_label_recovery(self.full_hard, self.distilled_hard)

    @property
    def lrs(self) -> float | None:
        """Label-robust score with w = 0.5."""
        if self.full_hard is None or self.distilled_hard is None or self.random is None:
            return None
        return label_robust_score(self.full_hard, self.distilled_hard, self.distilled, self.random)

    @property
    def ars(self) -> float | None:
        """Augmentation-robust score with g = 0.5."""
        if self.random is None or self.distilled_plain is None or self.random_plain is None:
            return None
        return augmentation_robust_score(
            self.distilled, self.random, self.distilled_plain, self.random_plain
        )


def robustness(tables: Sequence[Table]) -> list[Robustness]:
    """Derive the scores that a set of tables holds the accuracies for.

    What is set side by side has the same dataset in every value of its description, the same student, teacher, precision
    and ranks; a row is the same row under another recipe where method, settings, prior and images per class are the same.
    Where two rows fit equally well (random selection with two kinds of settings), neither is taken.

    Args:
        tables: Of :func:`benchmarks.tables.folding.fold`.

    Returns:
        An entry per row, student and recipe with hard labels, in the order of the tables; only for datasets and images per
        class where at least one score can be computed. Rows of ``full`` are what others are measured against.
    """
    scores: list[Robustness] = []
    for dataset in grouped(tables, lambda table: table.dataset):
        parts = grouped(dataset, lambda table: table.data)
        distinctions = distinguish([part[0].data for part in parts])
        for distinction, part in zip(distinctions, parts, strict=True):
            index = _Index(part, distinction)
            for same in grouped(part, lambda table: table.ipc):
                entries = [entry for table in same for entry in _of_table(table, part, index)]
                if any(entry.lrs is not None or entry.ars is not None for entry in entries):
                    scores += entries
    return scores


def _of_table(table: Table, tables: Sequence[Table], index: "_Index") -> list[Robustness]:
    hards = [table] if table.labels == "hard" else _hards(tables)
    plains = _plains(table, tables)
    entries = []
    for row in (row for row in table.rows if row.method != FULL):
        for column in (column for column in table.columns if column in row.cells):
            cell = row.cells[column][0]
            useful = [
                hard
                for hard in hards
                if index.of_method(FULL, hard, cell) or index.of_row(hard, cell)
            ]
            hard_or_none: Sequence[Table | None] = useful or [None]
            entries += [_entry(table, row, column, hard, plains, index) for hard in hard_or_none]
    return entries


def _hards(tables: Sequence[Table]) -> list[Table]:
    """Return a table for each recipe with hard labels."""
    return [same[0] for same in grouped((t for t in tables if t.labels == "hard"), same_recipe)]


def _plains(table: Table, tables: Sequence[Table]) -> list[Table]:
    """Return a table for each recipe that differs in nothing but that it augments nothing; none if this one does so."""
    if not augments(table):
        return []
    ours = _without_augmentation(table)
    same = [t for t in tables if _without_augmentation(t) == ours and not augments(t)]
    return [group[0] for group in grouped(same, same_recipe)]


def _without_augmentation(table: Table) -> dict[str, Any]:
    # Name and list of changes follow from the values, or differ without changing anything.
    skip = (*AUGMENTATION, "name", "changed")
    return {key: value for key, value in table.recipe_fields.items() if key not in skip}


def augments(table: Table) -> bool:
    """Say whether the recipe of a table changes the images that students see.

    Args:
        table: Its recipe may give crops by the side of the images.
    """
    fields = table.recipe_fields
    scale = fields.get("crop_scale", [1.0, 1.0])
    if isinstance(scale, Mapping):
        side = int(table.data.get("image_size") or 1)
        scale = scale[max((key for key in scale if int(key) <= side), key=int)]
    others = (fields.get(name) for name in AUGMENTATION if name != "crop_scale")
    return list(scale) != [1, 1] or any(others)


class _Index:
    """Means over seeds of all cells of a dataset, by what they have to share to be set side by side."""

    def __init__(self, tables: Sequence[Table], distinction: str) -> None:
        self.distinction = distinction
        self.names = dict(zip(map(same_recipe, tables), name_recipes(tables), strict=True))
        self.means: dict[str, list[float]] = {}
        for table in tables:
            for row in table.rows:
                for column, results in row.cells.items():
                    score = row.score(column)
                    assert score is not None
                    for key in self._keys(table, row.method, results[0]):
                        self.means.setdefault(key, []).append(score.mean)

    def _keys(self, recipe: Table, method: str, cell: Result) -> tuple[str, str]:
        where = [same_recipe(recipe), student_of(cell)]
        budget = None if method == FULL else cell.cell.ipc
        return (
            hash_config([*where, identity(cell)]),
            hash_config([*where, circumstances(cell), method, budget]),
        )

    def name(self, recipe: Table) -> str:
        """Return the label of a table's recipe, with what tells it from others of that label."""
        return self.names[same_recipe(recipe)]

    def of_row(self, recipe: Table, cell: Result) -> list[float]:
        """Return the means of the cell's own row, for its student, under a recipe."""
        return self.means.get(self._keys(recipe, "", cell)[0], [])

    def of_method(self, method: str, recipe: Table, cell: Result) -> list[float]:
        """Return the means of another method in the cell's place under a recipe."""
        return self.means.get(self._keys(recipe, method, cell)[1], [])


def _entry(
    table: Table,
    row: Row,
    column: str,
    hard: Table | None,
    plains: Sequence[Table],
    index: _Index,
) -> Robustness:
    """Look up what the scores of a cell need, and note what is not there."""
    cell, missing = row.cells[column][0], []

    def one(recipe: Table | None, method: str | None = None) -> float | None:
        if recipe is None:
            return None
        means = index.of_method(method, recipe, cell) if method else index.of_row(recipe, cell)
        if len(means) == 1:
            return means[0]
        missing.append(f"{method or row.label} under {index.name(recipe)}{_several(means)}")
        return None

    random = one(table, RANDOM)
    if hard is None:
        missing.append("a recipe with hard labels")
    full_hard, distilled_hard = one(hard, FULL), one(hard)
    plain = plains[0] if len(plains) == 1 else None
    if augments(table) and plain is None:
        missing.append(f"{index.name(table)} without augmentation{_several(plains)}")
    distilled_plain, random_plain = one(plain), one(plain, RANDOM)
    score = row.score(column)
    assert score is not None
    return Robustness(
        dataset=table.dataset,
        ipc=table.ipc,
        recipe=index.name(table),
        distinction=index.distinction,
        row=row.label,
        student=column,
        hard=index.name(hard) if hard else None,
        plain=index.name(plain) if plain else None,
        distilled=score.mean,
        random=random,
        full_hard=full_hard,
        distilled_hard=distilled_hard,
        distilled_plain=distilled_plain,
        random_plain=random_plain,
        missing=tuple(dict.fromkeys(missing)),
    )


def _several(candidates: Sequence[Any]) -> str:
    return " (several)" if candidates else ""
