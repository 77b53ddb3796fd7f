"""How the numbers of a table were made, told from its results."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.results.records import Result
from benchmarks.results.sealed import SealedRecord
from benchmarks.tables.folding import Row, Table, learns_rate

_VERSIONS = (
    "ddoq-bench",
    "python",
    "torch",
    "torchvision",
    "lightning",
    "diffusers",
    "timm",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "faiss-gpu-cu12",
)


def made_with(records: Sequence[SealedRecord]) -> str:
    """Say in a line which versions and commits trained the students of results of a kind of their own, and when.

    Args:
        records: At least one.
    """
    provenances = [record.provenance for record in records]
    code = _join(map(_commit, provenances))
    return f"Versions: {_versions(provenances)}. Code: {code}. Date: {_dates(records)}."


def provenance_notes(table: Table) -> str:
    """List what made the numbers of a table.

    Args:
        table: Any table.

    Returns:
        A Markdown list: dataset with its limits, recipe, teacher, seeds, methods, hardware, versions, code, dates, and
        what rows warn of.
    """
    results = table.results
    provenances = [part for result in results for part in _provenances(result)]
    points = [
        f"Dataset: {_dataset(table)}",
        f"Recipe: {table.recipe}: {_pairs(table.recipe_fields, skip=('name', 'changed'))}",
        f"Teacher: {_join(_teacher(result) for result in results)}",
        f"Seeds of students: {_join(str(r.cell.seed) for r in results)}",
        f"Seeds of distillation: {_join(_distill_seed(r) for r in results)}",
        *(f"Method {row.label}: {_method(row)}" for row in table.rows),
        f"Students trained on: {_join(_hardware(result) for result in results)}",
        f"Versions: {_versions(provenances)}",
        f"Code: {_join(map(_commit, provenances))}",
        f"Date: {_dates(results)}",
        *(f"Warning: {text}" for text in warnings_of(table.rows)),
    ]
    return "\n".join(f"- {' '.join(point.split())}" for point in points)


def warnings_of(rows: Iterable[Row]) -> list[str]:
    """List the warnings of rows, each once with the cells that it is said of.

    Args:
        rows: Of one table.

    Returns:
        Sentences such as ``ddoq, resnet18 (seed 0, 1): the student is at chance ...``.
    """
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for row in rows:
        for result in row.results:
            for text in result.warnings:
                key = (row.label, result.cell.student, text)
                seeds.setdefault(key, set()).add(result.cell.seed)
    return [
        f"{label}, {student} (seed {_join(map(str, numbers))}): {text}"
        for (label, student, text), numbers in seeds.items()
    ]


def _join(texts: Iterable[str]) -> str:
    """List distinct texts in order, numbers as numbers."""
    return ", ".join(
        sorted(set(texts), key=lambda text: (not text.isdigit(), text.zfill(20), text))
    )


def _pairs(values: Any, skip: tuple[str, ...] = ()) -> str:
    if not isinstance(values, dict):
        return "not recorded"
    return (
        ", ".join(f"{key}={_short(item)}" for key, item in values.items() if key not in skip)
        or "nothing to set"
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return str(value)


def _dataset(table: Table) -> str:
    data = table.data
    limits = {
        key: f"at most {data[key]} a class" if data.get(key) is not None else "all"
        for key in ("limit_per_class", "test_limit_per_class")
    }
    size = data.get("image_size", "unknown")
    resized = (
        f", resized to {data['test_resize']}, then the centre" if "test_resize" in data else ""
    )
    return (
        f"{table.dataset}, {data.get('num_classes', 'unknown')} classes, {size} x {size} pixels; "
        f"{data.get('train_images', 'unknown')} training images ({limits['limit_per_class']}), "
        f"{data.get('test_images', 'unknown')} test images ({limits['test_limit_per_class']}{resized}); "
        f"source {data.get('source', 'unknown')}"
    )


def _teacher(result: Result) -> str:
    teacher = result.teacher
    if teacher is None:
        labels = (result.config.get("recipe") or {}).get("labels")
        return "none (targets of the set)" if labels == "set" else "none (hard labels)"
    accuracy = teacher.get("accuracy_real")
    score = "not recorded" if accuracy is None else f"{100 * accuracy:.2f} %"
    fingerprint = teacher.get("fingerprint", "unknown")
    return f"{teacher.get('arch', 'unknown')} ({score} top-1 on the real test set, fingerprint {fingerprint})"


def _distill_seed(result: Result) -> str:
    return "unknown" if result.cell.distill_seed is None else str(result.cell.distill_seed)


def _method(row: Row) -> str:
    distilled = row.results[0].config.get("distilled") or {}
    context = distilled.get("context") or {}
    conditions = {
        key: context[key] for key in ("prior", "teacher", "precision") if context.get(key)
    }
    settings = distilled.get("settings")
    sets = _join(str(result.distilled.get("fingerprint")) for result in row.results)
    both = {**settings, **conditions} if isinstance(settings, dict) else settings
    rate = (
        "; students start from the learning rate of the set" if learns_rate(row.results[0]) else ""
    )
    return f"{_pairs(both, skip=('seed', 'ipc'))}{rate}{_knowledge(row)}; distilled sets {sets}"


def _knowledge(row: Row) -> str:
    """Say what the sets of a row know beyond their budget, such as a generator, where their method says so."""
    known = {text for result in row.results if (text := result.distilled.get("knowledge"))}
    return f"; knowledge beyond the budget: {_join(known)}" if known else ""


def _hardware(result: Result) -> str:
    cost = result.cost
    ranks = f"world size {cost.get('world_size', 'unknown')}"
    synchronised = cost.get("sync_batchnorm")  # None on one rank and without batch normalisation
    if synchronised is not None:
        ranks += f", batch statistics {'over all ranks' if synchronised else 'per rank'}"
    return f"{cost.get('device', 'unknown')} ({cost.get('precision', 'unknown')}, {ranks})"


def _versions(provenances: Iterable[dict[str, Any]]) -> str:
    versions: dict[str, set[str]] = {}
    for record in provenances:
        for name, version in (record.get("versions") or {}).items():
            versions.setdefault(name, set()).add(version)
    known = [name for name in _VERSIONS if name in versions]
    return (
        ", ".join(f"{name} {' and '.join(sorted(versions[name]))}" for name in known) or "unknown"
    )


def _provenances(result: Result) -> list[dict[str, Any]]:
    """Return the records of the student's training and of the distillation."""
    return [result.provenance, result.distilled.get("provenance") or {}]


def _commit(provenance: dict[str, Any]) -> str:
    git = provenance.get("git")
    if not git:
        return "no commit recorded"
    return f"commit {git['commit'][:12]}" + (" (modified)" if git.get("modified") else "")


def _dates(results: Sequence[Result] | Sequence[SealedRecord]) -> str:
    dates = sorted({result.created[:10] for result in results})
    return dates[0] + (f" to {dates[-1]}" if len(dates) > 1 else "")
