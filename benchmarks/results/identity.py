"""Which training a result is of, whatever it is called and whoever ran it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.results.records import Result
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.keys import precision_name, seen_key


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write the configuration of a cell so that equal trainings read the same, whichever version wrote them.

    A student's display name decides nothing, aliases of a precision are one, and a set that was made from the very
    dataset of its evaluation needs no key of it.

    Args:
        config: As a result keeps it.

    Returns:
        A copy with these differences taken out.
    """
    changed = {**config}
    if "precision" in config:
        changed["precision"] = precision_name(config["precision"])
    if isinstance(student := config.get("student"), Mapping):
        changed["student"] = {key: value for key, value in student.items() if key != "name"}
    distilled = config.get("distilled")
    context = distilled.get("context") if isinstance(distilled, Mapping) else None
    if isinstance(context, Mapping):
        rest = {k: v for k, v in context.items() if k != "data" or v not in _keys_of(config)}
        if "precision" in rest:
            rest["precision"] = precision_name(rest["precision"])
        changed["distilled"] = {**distilled, "context": rest}  # type: ignore[dict-item]
    return changed


def _keys_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys under which sets of a dataset have been made: the whole description of it, or what was seen."""
    data = config.get("data") or {}
    return hash_config(data), seen_key(data), seen_key(data, normalized=True)


def training_of(result: Result) -> str:
    """Hash what a result is of: the configuration with its seeds, without the bits of a set that seeds decide."""
    config = comparable(result.config)
    distilled = dict(config.get("distilled") or {})
    if distilled.get("settings") is not None:  # else only its contents tell a set from another
        distilled.pop("fingerprint", None)
    return hash_config(
        [result.cell.dataset, result.cell.method, {**config, "distilled": distilled}]
    )


def once_each(
    read: Iterable[tuple[Path, Result]],
) -> tuple[list[Result], list[str], list[str]]:
    """Keep one result of each training: two with equal seeds are no two repetitions.

    Args:
        read: Results with their files; of those of one training the first is kept.

    Returns:
        The results; a message for every file that was left out and contradicts the one that was kept; and a note for
        every other that was left out.
    """
    first: dict[str, tuple[Path, Result]] = {}
    problems, notes = [], []
    for path, result in read:
        kept, known = first.setdefault(training_of(result), (path, result))
        if known is result:
            continue
        what = f"{path} was left out: {kept} is the same cell"
        if known.metrics != result.metrics:
            problems.append(f"{what} with other numbers. Keep one.")
            continue
        called = [known.cell.student, result.cell.student]
        names = f", called {called[0]!r} there and {called[1]!r} here" if len({*called}) > 1 else ""
        notes.append(
            f"{what} (seed {result.cell.seed}) with the same numbers{names}; it counts once."
        )
    return [result for _, result in first.values()], problems, notes
