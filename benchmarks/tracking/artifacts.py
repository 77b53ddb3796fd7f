"""What W&B gets beside the students' runs: distilled sets as artifacts, the leaderboard of a suite as a table, other results."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import copyfile
from typing import Any

from benchmarks.results.columns import flat, flat_sealed
from benchmarks.results.records import Result
from benchmarks.results.sealed import Kind, Record, SealedRecord
from benchmarks.tables.folding import in_order
from benchmarks.tables.sealed import with_equal_keys
from benchmarks.tracking.loggers import (
    WandbOptions,
    enabled,
    files_in,
    start_run,
    student_folder,
)
from ddoq.errors import UserError
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.files import read_json, write_json
from ddoq.storage.fingerprints import hash_config, plain
from ddoq.storage.locks import locked
from ddoq.storage.run_folder import RunFolder, SetFolder

_LONGEST_NAME = 100  # W&B takes 128 characters


def artifact_name(method: str, dataset: str, ipc: int) -> str:
    """Name the artifact of a distilled set; sets that differ in seed or settings are its versions.

    Example:
        >>> artifact_name("ddoq", "user/birds", 10)
        'ddoq-user-birds-ipc10'
    """
    head = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{method}-{dataset}")[:_LONGEST_NAME].rstrip("-")
    return f"{head}-ipc{ipc}"


def log_distilled_set(
    options: WandbOptions, folder: Path, output: Path, config: Mapping[str, Any]
) -> bool:
    """Log a distilled set and its configuration as artifacts, in a run of job type ``distill``.

    The set is logged once for a project, whoever asks. Images are not copied, offline neither: the artifact
    points at the file of the set, which no run changes. Trouble with W&B is a warning.

    Args:
        options: Whether and how to use W&B.
        folder: Where the set is stored.
        output: Root of caches and results.
        config: The whole resolved configuration.

    Returns:
        Whether it was logged now.
    """

    def log() -> bool:
        record = read_json(SetFolder(folder).record)
        name = artifact_name(record["method"], record["data"]["name"], record["ipc"])
        place = ("distill", f"{name}-{record['fingerprint']}")
        home = RunFolder(output).tracked(*place)
        with _once(
            RunFolder(output), place, _destination(options) | {"set": record["fingerprint"]}
        ) as new:
            if new:
                _log_set(options, home, name, folder, record, config)
        return new

    return options.artifacts and _warned(log, options, "the distilled set")


def _log_set(
    options: WandbOptions,
    home: Path,
    name: str,
    folder: Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    import wandb

    identity = {"method": record["method"], "settings": record["settings"], **record["context"]}
    metadata = {
        "fingerprint": record["fingerprint"],
        "config_hash": hash_config(identity),  # as in the name of the set's folder
        **{key: record[key] for key in ("method", "ipc", "seed", "settings", "data")},
        "statistics": record.get("statistics", {}),
        "cost": record.get("cost", {}),
    }
    whole = {"distilled": metadata, "config": plain(config)}
    with _run(options, home, name, "distill", whole) as run:
        # Later runs write their own configuration beside the set, and a set that was deleted and made again has
        # other times in its record: what an artifact points at must stay as it was.
        logged, copies = SetFolder(folder), SetFolder(home / f"files-{run.id}")
        write_json(copies.config, config)
        copyfile(logged.record, copies.record)
        files = [logged.tensors, copies.config, copies.record]
        if logged.sheet.is_file():
            files.append(logged.sheet)
            run.log({"distilled_images": wandb.Image(str(logged.sheet))})
        artifact = wandb.Artifact(name, type="distilled-set", metadata=metadata)
        for file in files:
            _add(artifact, file)
        run.log_artifact(artifact, aliases=["latest", record["fingerprint"]])
        resolved = wandb.Artifact(f"{name}-config", type="config", metadata=metadata)
        _add(resolved, copies.config)
        run.log_artifact(resolved, aliases=["latest", record["fingerprint"]])
        run.summary.update({"fingerprint": record["fingerprint"], **metadata["cost"]})


def _add(artifact: Any, file: Path) -> None:
    # `immutable` and `skip_cache` keep W&B from copying what may be gigabytes, now and when it is sent.
    artifact.add_file(str(file.resolve()), name=file.name, policy="immutable", skip_cache=True)


def log_leaderboard(
    options: WandbOptions, name: str, output: Path, results: Sequence[Result]
) -> bool:
    """Log results as one table, in a run of job type ``leaderboard``; the same results only once.

    Args:
        options: Whether and how to use W&B.
        name: What the suite is called.
        output: Root of caches and results.
        results: One row each; the order changes nothing.

    Returns:
        Whether it was logged now. Trouble with W&B is a warning.
    """
    lines = [flat(result) for result in in_order(results)]
    return _log_lines(options, name, name, output, lines)


def log_sealed_leaderboard(
    options: WandbOptions, name: str, output: Path, kind: Kind[Record], records: Sequence[Record]
) -> bool:
    """Log results of another kind as a table of their own; see :func:`log_leaderboard`."""
    lines = with_equal_keys([flat_sealed(record) for record in sorted(records, key=kind.rank)])
    return _log_lines(options, name, f"{name}-{kind.what}", output, lines)


def _log_lines(
    options: WandbOptions, suite: str, name: str, output: Path, lines: Sequence[Mapping[str, Any]]
) -> bool:
    def log() -> bool:
        home = RunFolder(output).tracked("leaderboard", name)
        place = ("leaderboard", name)
        # Anyone who can see what W&B has sees all of them, so one that changed makes another table.
        rows = [[line["config_hash"], line["created"]] for line in lines]
        what = _destination(options) | {"group": options.group, "rows": rows}
        with _once(RunFolder(output), place, what) as new:
            if new:
                _log_table(options, home, suite, f"{name}-leaderboard", lines)
        return new

    return bool(lines) and _warned(log, options, "the leaderboard")


def _log_table(
    options: WandbOptions, home: Path, suite: str, name: str, lines: Sequence[Mapping[str, Any]]
) -> None:
    import wandb

    columns, rows = table_of(lines)
    with _run(options, home, name, "leaderboard", {"suite": suite}) as run:
        run.log({"leaderboard": wandb.Table(columns=columns, data=rows)})
        run.summary.update({"cells": len(rows)})


def log_record(options: WandbOptions, output: Path, record: SealedRecord) -> bool:
    """Log a result of another kind as a run of job type ``student``, its numbers in the summary.

    Args:
        options: Whether and how to use W&B.
        output: Root of caches and results.
        record: It.

    Returns:
        Whether it was logged. Trouble with W&B is a warning.
    """

    def log() -> bool:
        name = record.cell.title
        home = student_folder(RunFolder(output).students, name, record.config)
        config = {"cell": asdict(record.cell), **record.config}
        with _run(options, home, name, "student", config) as run:
            known = {key: v for key, v in flat_sealed(record).items() if v is not None}
            run.summary.update(known)
        return True

    return _warned(log, options, "a result")


def table_of(lines: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Spread lines over columns.

    Args:
        lines: At least one, all with the keys of the first, e.g. of :func:`benchmarks.results.columns.flat`.

    Returns:
        The names of the columns, and a row per line. What is unknown is None. A column that has numbers in
        some rows and texts in others is written as text, since a W&B column has one type.
    """
    columns = list(lines[0])
    mixed = {key for key in columns if len({_kind(line[key]) for line in lines} - {None}) > 1}
    rows = [
        [str(v) if key in mixed and v is not None else v for key, v in line.items()]
        for line in lines
    ]
    return columns, rows


def _kind(value: Any) -> type | None:
    if value is None:
        return None
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _destination(options: WandbOptions) -> dict[str, Any]:
    return {"mode": options.mode, "project": options.project, "entity": options.entity}


@contextmanager
def _once(run: RunFolder, place: tuple[str, str], what: Mapping[str, Any]) -> Iterator[bool]:
    """Say whether something was not logged there before, and remember it if the block ends well."""
    key = hash_config(what)
    mark = run.tracked_mark(*place)
    if key in (read_or_set_aside(mark, read_json) or []):
        yield False
        return
    with locked(run.tracked_lock(*place), "waiting for another process that logs the same to W&B"):
        logged: list[str] = read_or_set_aside(mark, read_json) or []
        yield key not in logged
        if key not in logged:
            write_json(mark, [*logged, key])


@contextmanager
def _run(
    options: WandbOptions, home: Path, name: str, job_type: str, config: Mapping[str, Any]
) -> Iterator[Any]:
    with files_in(home.parent):
        run = start_run(options, home, name, job_type, config)
        code = 1
        try:
            yield run
            code = 0
        finally:
            run.finish(exit_code=code)


def _warned(log: Callable[[], bool], options: WandbOptions, what: str) -> bool:
    try:
        return enabled(options) and log()
    except Exception as error:  # noqa: BLE001 - whatever it is, everything is on disk
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        warnings.warn(f"W&B has not got {what}: {reason}", stacklevel=3)
        return False
