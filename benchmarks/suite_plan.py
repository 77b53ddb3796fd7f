"""A suite is a grid of cells: read it from YAML and list the commands that it stands for."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.layers import resolve
from ddoq.errors import UserError, suggest
from ddoq.fingerprints import hash_config

_KEYS = ("configs", "grid", "students", "seeds", "output")


@dataclass(frozen=True)
class Job:
    """One process of a suite.

    Attributes:
        name: What progress lines call it.
        command: ``distill`` or ``fit``.
        arguments: Its options.
        contents: Hash of the files that the options name: a changed configuration is another job.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    contents: str

    @property
    def key(self) -> str:
        """Hash of all that the process does."""
        return hash_config([self.command, self.arguments, self.contents])


@dataclass(frozen=True)
class Plan:
    """What a suite runs.

    Attributes:
        sets: Distillations, each once however many cells need it.
        cells: One student and one seed each.
        output: Root of caches and results.
    """

    sets: list[Job]
    cells: list[Job]
    output: Path


def read_suite(path: Path) -> dict[str, Any]:
    """Read and check a suite file.

    Args:
        path: YAML with the keys ``configs``, and optionally ``grid``, ``students``, ``seeds`` and ``output``.

    Returns:
        Its contents.

    Raises:
        UserError: If it is missing, no YAML mapping, or has unknown, missing or wrong keys.
    """
    resolve(path)  # for its errors: missing, no YAML, no mapping
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path}: unknown key {key!r}. {suggest(str(key), _KEYS)}")
    for key in ("configs", "seeds", "students"):
        value = content.get(key, [0])
        if not isinstance(value, list) or not value:
            raise UserError(f"{path}: `{key}` must be a list with at least one entry.")
    if "configs" not in content:
        raise UserError(f"{path}: `configs` must list the configurations to run.")
    grid = content.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise UserError(f"{path}: `grid` must give a list of values for each key.")
    return content


def _last(files: list[Path], key: str) -> Any:
    """Find what a configuration says under a top-level key; later files win."""
    found = None
    for file in files:
        found = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get(key, found)
    return found


def _label(student: Mapping[str, Any]) -> str:
    return str(student.get("name") or student.get("arch"))


def _options(values: Mapping[str, Any]) -> list[str]:
    """Write grid values as options, e.g. ``--model.init_args.ipc=10``."""
    return [f"--{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()]


def plan_suite(path: Path, output: Path | None = None, extra: tuple[str, ...] = ()) -> Plan:
    """List what a suite runs, in order.

    Args:
        path: The suite file.
        output: Root of caches and results, instead of the file's.
        extra: Options added to every process.

    Returns:
        The plan.

    Raises:
        UserError: If the suite or a configuration cannot be read, or names no student.
    """
    content = read_suite(path)
    root = output or Path(content.get("output", "runs"))
    grid = content.get("grid", {})
    combinations = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    sets, cells = [], []
    for name in content["configs"]:
        config = path.parent / name
        files = resolve(config)
        contents = hash_config([file.read_text(encoding="utf-8") for file in files])
        students = content.get("students") or _last(files, "students")
        seeds = content.get("seeds") or _last(files, "seeds") or [0]
        if not students:
            raise UserError(f"{config} names no student; give `students` there or in {path}.")
        for values in combinations:
            told = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
            title = f"{config.stem} {told}".strip()
            base = ("--config", str(config), *_options(values), *extra, "--output", str(root))
            sets.append(Job(f"{title}: distil", "distill", base, contents))
            for seed, student in itertools.product(seeds, students):
                own = (f"--students={json.dumps([student])}", f"--seeds={json.dumps([seed])}")
                cell = f"{title}: {_label(student)}, seed {seed}"
                cells.append(Job(cell, "fit", (*base, *own), contents))
    return Plan(sets, cells, root)
