"""Does a result come out again? What was recorded of each stage beside what was derived anew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.results.identity import comparable
from benchmarks.results.records import FRACTIONS, Result

SAME, WITHIN, OTHER, DIFFERS = "same", "within tolerance", "other bits", "differs"
# Three points of accuracy: about twice the standard deviation over seeds of most rows in the README. On another machine,
# or with other versions, rounding is amplified until a training is another draw of the same distribution.
TOLERANCE = 0.03

_SURROUNDINGS = ("platform", "cpu", "gpus", "threads", "matmul_precision", "environment")


@dataclass(frozen=True)
class Stage:
    """One line of the comparison.

    Attributes:
        name: Of the stage, or of one of its numbers.
        recorded: What the result file says.
        derived: What came out.
        verdict: ``same``, ``within tolerance``, ``other bits`` (where the surroundings explain them) or ``differs``.
    """

    name: str
    recorded: str
    derived: str
    verdict: str


def compare_data(result: Result, description: Mapping[str, Any]) -> list[Stage]:
    """Compare the dataset of a result with the one at hand.

    Args:
        result: As recorded.
        description: Of the dataset, as JSON values.

    Returns:
        One line where they are the same; else one for every entry that differs.
    """
    recorded = result.config.get("data") or {}
    return compare_entries("dataset", recorded, description, recorded.get("source"))


def compare_entries(
    name: str, recorded: Mapping[str, Any], derived: Mapping[str, Any], same: Any
) -> list[Stage]:
    """Compare two mappings of JSON values.

    Args:
        name: What they are.
        recorded: One.
        derived: The other.
        same: What is shown where they are equal.

    Returns:
        One line where they are; else one for every entry that differs.
    """
    names = [key for key in {**recorded, **derived} if recorded.get(key) != derived.get(key)]
    if not names:
        return [_same(name, same)]
    return [_differs(f"{name}: {key}", recorded.get(key), derived.get(key)) for key in names]


def compare_choices(
    result: Result,
    method: str | None,
    settings: Mapping[str, Any] | None,
    recipe: Mapping[str, Any],
) -> list[Stage]:
    """Compare what was chosen, before anything is trained.

    Args:
        result: As recorded.
        method: Name of the method; None where a set is given.
        settings: Its settings, as JSON values; None likewise.
        recipe: Values of the recipe.

    Returns:
        A line for the method and one for the recipe, or one for every value that differs.
    """
    chosen = (result.config.get("distilled") or {}).get("settings") or {}
    stages = compare_method(result.cell.method, chosen, method, settings)
    recorded = result.config.get("recipe") or {}
    return [*stages, *compare_entries("recipe", recorded, recipe, result.cell.recipe)]


def compare_method(
    recorded: str,
    chosen: Mapping[str, Any],
    method: str | None,
    settings: Mapping[str, Any] | None,
) -> list[Stage]:
    """Compare a method and its settings, as recorded and as configured; nothing where a set is given."""
    if settings is None:
        return []
    if recorded != method:
        return [_differs("method", recorded, method)]
    return compare_entries("method", chosen, settings, method)


def compare_surroundings(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[Stage]:
    """Compare versions, machine and threads: what decides whether the same bits can be expected.

    Args:
        recorded: Provenance of the result.
        here: Provenance of this process, as JSON values.

    Returns:
        One line where all is the same, else one for each that is not.
    """
    before, now = (_flat(record) for record in (recorded, here))
    # A library that one side has in addition, or a commit, is no reason for other numbers.
    names = [n for n in before if n in now and before[n] != now[n]]
    if not names:
        return [_same("versions and machine", f"torch {before.get('torch', 'unknown')}")]
    return [Stage(f"surroundings: {n}", _text(before[n]), _text(now[n]), OTHER) for n in names]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    versions = {k: v for k, v in (record.get("versions") or {}).items() if k != "ddoq-bench"}
    return {**versions, **{name: record.get(name) for name in _SURROUNDINGS}}


def compare_results(
    result: Result, derived: Result, *, exact: bool, tolerance: float = TOLERANCE
) -> list[Stage]:
    """Compare a result with the one that was derived anew.

    Args:
        result: As recorded.
        derived: As it came out.
        exact: Whether the same bits are expected: on the same machine, with the same versions.
        tolerance: Greatest difference of an accuracy, as a fraction, where they are not.

    Returns:
        Lines for prior, teacher, set, cell and every number of the row.
    """
    stages = []
    for name, key in (("prior", "prior"), ("teacher of the set", "teacher")):
        before, now = (_context(each).get(key) for each in (result, derived))
        stages += [compare_bits(name, before, now, exact)] if before or now else []
    names = {"teacher": "teacher"} if result.config.get("teacher") else {}
    for name, key in names.items():
        stages.append(compare_bits(name, result.config.get(key), derived.config.get(key), exact))
    before, now = (_set_of(each) for each in (result, derived))
    stages += [compare_bits("distilled set", before, now, exact), _student(result, derived)]
    old, new = asdict(result.metrics), asdict(derived.metrics)
    for name in FRACTIONS:
        stages.append(compare_number(name, old[name], new[name], exact, tolerance))
    stages += _losses(result, derived, exact)
    return stages


def _student(result: Result, derived: Result) -> Stage:
    """Compare what else decides a row: student, seed, precision, ranks."""
    names = ("student", "seed", "precision", "evaluation", "label_format")
    before, now = (
        {name: comparable(each.config).get(name) for name in names} for each in (result, derived)
    )
    what = f"{result.cell.student}, seed {result.cell.seed}"
    return _same("student", what) if before == now else _differs("student", before, now)


def _losses(result: Result, derived: Result, exact: bool) -> list[Stage]:
    """Compare the losses of the curve; they are no accuracies, so that only equality says something."""
    before, now = (
        [entry.get("train_loss") for entry in each.metrics.curve] for each in (result, derived)
    )
    if not before and not now:
        return []
    last = [_text(losses[-1] if losses else None) for losses in (before, now)]
    verdict = SAME if before == now else DIFFERS if exact else OTHER
    return [Stage("training losses (the last)", last[0], last[1], verdict)]


def compare_number(name: str, before: float, now: float, exact: bool, tolerance: float) -> Stage:
    """Compare a share such as an accuracy; where the same bits cannot be expected, within a tolerance."""
    if before == now:
        verdict = SAME
    else:
        near = not exact and math.isclose(before, now, rel_tol=0.0, abs_tol=tolerance)
        verdict = WITHIN if near else DIFFERS
    return Stage(name, f"{before:.6f}", f"{now:.6f}", verdict)


def compare_bits(name: str, before: Any, now: Any, exact: bool) -> Stage:
    """Compare what is the same or another, such as fingerprints."""
    verdict = SAME if before == now else DIFFERS if exact else OTHER
    return Stage(name, _text(before), _text(now), verdict)


def _context(result: Result) -> Mapping[str, Any]:
    return (result.config.get("distilled") or {}).get("context") or {}


def _set_of(result: Result) -> Any:
    return (result.config.get("distilled") or {}).get("fingerprint")


def _same(name: str, value: Any) -> Stage:
    return Stage(name, _text(value), _text(value), SAME)


def _differs(name: str, before: Any, now: Any) -> Stage:
    return Stage(name, _text(before), _text(now), DIFFERS)


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def is_same(stages: Sequence[Stage]) -> bool:
    """Say whether nothing differs but what the surroundings explain."""
    return all(stage.verdict != DIFFERS for stage in stages)
