"""Result files: one JSON per cell, named by the hash of its whole configuration, and checked when read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.results.identity import once_each
from benchmarks.results.records import (
    FAILURE,
    RESULT,
    RESULT_FORMAT,
    Cell,
    Failure,
    Metrics,
    Result,
    make_result,
    now,
)
from ddoq.errors import UserError
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.files import read_json, read_sealed, write_json, write_sealed
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.run_folder import RunFolder

__all__ = [
    "Cell",
    "Failure",
    "Metrics",
    "Reading",
    "Result",
    "failure_path",
    "find_result",
    "make_result",
    "read_failures",
    "read_folder",
    "read_result",
    "read_results",
    "write_failure",
    "write_result",
]

_KEYS = ("cell", "config", "metrics", "cost", "teacher", "distilled", "provenance", "created")
_MEND = "Restore it, or run that cell again, which sets it aside."


def write_result(folder: Path, result: Result) -> Path:
    """Write a result as ``<config hash>.json``, atomically.

    Args:
        folder: Where results are kept; made if need be.
        result: What to write; an earlier result of the same configuration is replaced.

    Returns:
        The file.
    """
    path = folder / f"{result.config_hash}.json"
    write_json(path, result.record())
    return path


def find_result(folder: Path, config: Mapping[str, Any]) -> Result | None:
    """Return the stored result of a configuration.

    Args:
        folder: Where results are kept.
        config: Everything that decides the numbers.

    Returns:
        The result, or None if there is none. A damaged one is set aside with a line on stderr; it is neither used nor
        replaced silently.

    Raises:
        UserError: If there is one of another format.
    """
    return read_or_set_aside(folder / f"{hash_config(config)}.json", read_result)


def read_result(path: Path) -> Result:
    """Read one result file and check it.

    Args:
        path: What :func:`write_result` wrote.

    Returns:
        The result.

    Raises:
        DamagedError: If it is corrupt, edited, incomplete or renamed.
        UserError: If it is of another format.
    """
    try:
        record = read_json(path)
    except DamagedError as error:
        raise error.mended_by(_MEND) from None
    problem = _problem(record, path.stem)
    if problem:
        if _is_map(record) and record.get("format") != RESULT_FORMAT and _is_sealed(record):
            raise UserError(f"{path} {problem}. Use the version that wrote it.")
        raise DamagedError(path, problem, _MEND)
    try:
        known = {key: record[key] for key in _KEYS if key not in ("cell", "metrics")}
        known["warnings"] = record.get("warnings", [])  # older files have none
        known["run"] = record.get("run")
        return Result(cell=_cell(record["cell"]), metrics=_metrics(record["metrics"]), **known)
    except UserError as error:
        raise DamagedError(path, f"is not a result file: {str(error).rstrip('.')}", _MEND) from None
    except (KeyError, TypeError) as error:
        raise DamagedError(path, f"is not a result file: missing or wrong {error}", _MEND) from None


def _problem(record: Any, name: str) -> str | None:
    """Say what is wrong with a record, in words that follow its file name."""
    if not isinstance(record, dict) or record.get("kind") != RESULT:
        return "is not a result file"
    if record.get("format") != RESULT_FORMAT:
        return f"has format {record.get('format')!r}, this version reads {RESULT_FORMAT}"
    missing = [key for key in (*_KEYS, "record_hash") if key not in record]
    if missing:
        return f"lacks {', '.join(missing)}"
    wrong = [
        key for key in ("config", "cost", "distilled", "provenance") if not _is_map(record[key])
    ]
    if not (record["teacher"] is None or _is_map(record["teacher"])):
        wrong.append("teacher")
    warnings = record.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        return "has no list of texts under warnings"
    if wrong:
        return f"has no mapping under {', '.join(wrong)}"
    if hash_config(record["config"]) != name:
        return "does not hash to its own name: its config was edited or the file renamed"
    if not _is_sealed(record):
        return "was changed after it was written: its contents do not match its record_hash"
    return None


def _is_sealed(record: Mapping[str, Any]) -> bool:
    """Say whether a record is what was written."""
    rest = {key: value for key, value in record.items() if key != "record_hash"}
    return bool(hash_config(rest) == record.get("record_hash"))


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _cell(values: Mapping[str, Any]) -> Cell:
    cell = Cell(**{item.name: values[item.name] for item in fields(Cell)})
    for key in ("ipc", "seed"):
        if not isinstance(getattr(cell, key), int):
            raise UserError(f"cell.{key} must be an integer, not {getattr(cell, key)!r}.")
    for key in ("dataset", "method", "student", "recipe"):
        if not isinstance(getattr(cell, key), str):
            raise UserError(f"cell.{key} must be a name, not {getattr(cell, key)!r}.")
    return cell


def _metrics(values: Mapping[str, Any]) -> Metrics:
    return Metrics(**{item.name: values[item.name] for item in fields(Metrics)})


def _candidates(folder: Path, kind: str, home: str) -> Iterator[Path]:
    """List files that are, or ought to be, of a kind.

    In a folder of runs other JSON files lie about. One counts if it says that it is of this kind, if it lies
    in the folder that is kept for the kind, or if it is named as a result is; reports of a suite's jobs are named
    alike, and have a folder of their own.
    """
    for path in sorted(folder.rglob("*.json")):
        if RunFolder.SMOKE in path.relative_to(folder).parts[:-1]:
            continue  # numbers of no use, unless this folder itself is asked for
        place = path.absolute().parent.name
        if place == home:
            yield path
            continue
        hashed = re.fullmatch(r"[0-9a-f]{16}", path.stem)
        named = kind == RESULT and hashed and place != RunFolder.JOBS
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # whoever reads it says why
            yield path
            continue
        if f'"{kind}"' in text or (named and f'"{FAILURE}"' not in text):
            yield path


@dataclass(frozen=True)
class Reading:
    """What was read of a folder.

    Attributes:
        results: Each cell once.
        problems: A message for every file that cannot be used, or that contradicts another.
        notes: One for every file that says what another said already.
    """

    results: list[Result]
    problems: list[str]
    notes: list[str]


def read_results(folder: Path) -> tuple[list[Result], list[str]]:
    """Read all results below a folder; see :func:`read_folder`.

    Returns:
        The results, each cell once, and a message for every file that was left out.
    """
    reading = read_folder(folder)
    return reading.results, reading.problems


def read_folder(folder: Path) -> Reading:
    """Read all results below a folder.

    Args:
        folder: Searched with all folders in it.

    Returns:
        The results, and what is to be said of files that were left out.

    Raises:
        UserError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder with results.")
    read: list[tuple[Path, Result]] = []
    problems = []
    for path in _candidates(folder, RESULT, RunFolder.RESULTS):
        try:
            read.append((path, read_result(path)))
        except UserError as error:
            problems.append(str(error))
    results, contradictions, notes = once_each(read)
    return Reading(results, [*problems, *contradictions], notes)


def failure_path(folder: Path, cell: Cell, config: Mapping[str, Any] | None = None) -> Path:
    """Return the file that :func:`write_failure` writes."""
    name = re.sub(r"[^\w.-]+", "_", f"{cell.method}-ipc{cell.ipc}-{cell.student}-s{cell.seed}")
    # Labels may be longer than a file name; the hash at the end keeps them apart.
    return folder / f"{name[:100]}-{hash_config(cell if config is None else config)}.json"


def write_failure(
    folder: Path, cell: Cell, error: str, config: Mapping[str, Any] | None = None
) -> Path:
    """Record that a cell ended in an error.

    Args:
        folder: Where failures are kept; made if need be.
        cell: What the cell is called.
        error: The message or traceback.
        config: Everything that decides its numbers; tells cells of equal names apart.

    Returns:
        The file. A later result of the same cell makes it void.
    """
    known = None if config is None else hash_config(config)
    path = failure_path(folder, cell, config)
    failure = Failure(cell, known, error, now())
    write_sealed(path, {"kind": FAILURE, "format": RESULT_FORMAT, **asdict(failure)})
    return path


def read_failures(folder: Path, results: list[Result]) -> tuple[list[Failure], list[str]]:
    """Read the failures below a folder that no later result has made void.

    Args:
        folder: Searched with all folders in it; beside a folder called ``results`` also ``failures``.
        results: What was read from the same folder.

    Returns:
        The failures and a message for every file that could not be read.
    """
    folders = [folder]
    if folder.name == RunFolder.RESULTS:
        folders.append(RunFolder(folder.parent).failures)
    failures, problems = [], []
    for path in (
        path for root in folders for path in _candidates(root, FAILURE, RunFolder.FAILURES)
    ):
        try:
            record = read_sealed(path)
            values = {item.name: record[item.name] for item in fields(Failure)}
            failure = Failure(**{**values, "cell": _cell(values["cell"])})
        except (UserError, KeyError, TypeError) as error:
            problems.append(
                f"{path} is not a readable failure file ({error}). Delete it: the cell's next run writes it anew if that "
                "fails again."
            )
            continue
        if not any(_voids(result, failure) for result in results):
            failures.append(failure)
    return failures, problems


def _voids(result: Result, failure: Failure) -> bool:
    if result.created <= failure.created:
        return False
    if failure.config_hash is not None:
        return result.config_hash == failure.config_hash
    return result.cell == failure.cell
