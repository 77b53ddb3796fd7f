"""The file of a suite: what it may hold, and what is wrong with one that holds something else."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.configuration.keys import KEYS
from benchmarks.configuration.layers import read_layer, resolve
from benchmarks.students.student import Student
from ddoq import seeding
from ddoq.bounds import check_finite
from ddoq.errors import UserError, suggest

_LISTS = ("configs", "datasets", "methods", "scales", "ipc", "seeds", "students", "against")
_KEYS = (*_LISTS, "name", "grid", "paired_seeds", "output")
# The lists whose entries are files or names, with the key of such an entry that has more to say.
LAYERS = {"configs": "config", "datasets": "dataset", "methods": "method", "scales": "scale"}
DISTILL_SEED = "model.init_args.seed"
BUDGET = "model.init_args.ipc"
# Options that a suite gives itself, and what to use instead.
OWN = {name: key.instead for name, key in KEYS.items() if key.instead}
AFTER_DISTILLATION = tuple(name for name, key in KEYS.items() if key.after_distillation)
_GRID = tuple(name for name, key in KEYS.items() if key.vary)


def read_suite(path: Path) -> dict[str, Any]:
    """Read and check a suite file.

    Args:
        path: YAML with the keys ``datasets`` and ``methods`` or ``configs``, and optionally ``name``, ``scales``, ``ipc``, ``grid``,
            ``students``, ``seeds``, ``paired_seeds``, ``against`` and ``output``. An entry of the first four is a name or a
            file, or a mapping such as ``{method: NAME, grid: GRID, ipc: [1, 10]}`` with a grid and budgets of its own.

    Returns:
        Its contents.

    Raises:
        UserError: If it is missing, no YAML mapping, or has unknown, missing or wrong keys.
    """
    content = read_layer(path)
    resolve(path)  # for the errors of `extends`
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path}: unknown key {key!r}. {suggest(str(key), _KEYS)}")
    _check_kinds(path, content)
    _check_grids(path, content)
    if "students" in content:
        check_students(path, content["students"])
    if "seeds" in content:
        check_seeds(path, content["seeds"])
    return content


def grids(content: Mapping[str, Any]) -> list[Any]:
    """Return the grids of a suite or of one of its entries; a single one stands for a list of one.

    Args:
        content: What the file or the entry holds.

    Returns:
        Mappings from keys to lists of values; one that is empty where there is no grid.

    Example:
        >>> grids({"grid": {"seed": [1, 2]}}), grids({})
        ([{'seed': [1, 2]}], [{}])
    """
    grid = content.get("grid", {})
    return grid if isinstance(grid, list) and grid else [grid]


def _check_kinds(path: Path, content: Mapping[str, Any]) -> None:
    for key in _LISTS:
        value = content.get(key, [0])
        if not isinstance(value, list) or not value:
            raise UserError(f"{path}: `{key}` must be a list with at least one entry.")
    if ("datasets" in content) != ("methods" in content):
        raise UserError(f"{path}: `datasets` and `methods` belong together: list both.")
    if "scales" in content and "methods" not in content:
        raise UserError(f"{path}: `scales` are those of `datasets` and `methods`: list these, too.")
    if not {"configs", "methods"} & set(content):
        raise UserError(
            f"{path}: `datasets` and `methods` (or `configs`) must list what to run, e.g. "
            "datasets: [digits] and methods: [random, ddoq]."
        )
    if not all(isinstance(name, str) for name in content.get("against", [])):
        raise UserError(f"{path}: `against` must list methods, e.g. [random].")
    for key in ("name", "output"):
        if not (isinstance(content.get(key, "x"), str) and content.get(key, "x")):
            raise UserError(f"{path}: `{key}` must be text.")
    if not isinstance(content.get("paired_seeds", False), bool):
        raise UserError(f"{path}: `paired_seeds` must be true or false.")


def _check_grids(path: Path, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        check_finite(f"{path}: {key}", value)
    parts = [content]
    for plural, singular in LAYERS.items():
        for entry in content.get(plural, []):
            _check_entry(path, entry, plural, singular)
            parts += [entry] if isinstance(entry, dict) else []
    budgets = any(part.get("ipc") for part in parts)
    for part in parts:
        _check_budgets(path, part.get("ipc"))
        for grid in grids(part):
            _check_grid(path, grid)
            _check_grid_seeds(path, grid)
            if content.get("paired_seeds") and DISTILL_SEED in grid:
                raise UserError(
                    f"{path}: `paired_seeds` sets {DISTILL_SEED!r}: take that out of the grid."
                )
            if budgets and BUDGET in grid:
                raise UserError(f"{path}: `ipc` sets {BUDGET!r}: take that out of the grid.")


def _check_entry(path: Path, entry: Any, plural: str, singular: str) -> None:
    what = "a file" if plural == "configs" else "a name or a file"
    if isinstance(entry, str):
        return
    if not isinstance(entry, dict) or not isinstance(entry.get(singular), str):
        raise UserError(
            f"{path}: an entry of `{plural}` must be {what}, or a mapping such as "
            f"{{{singular}: {'FILE' if plural == 'configs' else 'NAME'}, grid: {{KEY: [VALUE]}}}}, not {entry!r}."
        )
    for key in entry:
        if key not in (singular, "grid", "ipc"):
            raise UserError(
                f"{path}: unknown key {key!r} beside {entry[singular]!r}. {suggest(str(key), ('grid', 'ipc'))}"
            )


def _check_budgets(path: Path, ipc: Any) -> None:
    whole = isinstance(ipc, list) and ipc and all(type(k) is int and k >= 1 for k in ipc)
    if ipc is not None and not whole:
        raise UserError(f"{path}: `ipc` must be a list of integers from 1 on, not {ipc!r}.")
    if twice := _twice(ipc or []):
        raise UserError(f"{path}: the budget {twice[0]} is listed twice.")


def _check_grid(path: Path, grid: Any) -> None:
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise UserError(
            f"{path}: `grid` must give a list of values for each key, or be a list of such grids."
        )
    for key in grid:
        first = str(key).partition(".")[0]
        if first in OWN:
            raise UserError(f"{path}: {key!r} is no key for a grid; {OWN[first]}.")
        if first not in _GRID:
            raise UserError(f"{path}: unknown key {key!r} in `grid`. {suggest(first, _GRID)}")


def _check_grid_seeds(path: Path, grid: Mapping[str, Any]) -> None:
    """Refuse seeds in a grid as `seeds` does, whatever they are of."""
    for key, values in grid.items():
        if str(key).rpartition(".")[2] in ("seed", "label_seed", "seed_everything"):
            seeding.check_seeds(f"{path}: {key!r} in `grid`", values)


def check_students(path: Path, students: Any) -> None:
    """Refuse a list of students that cannot be trained.

    Args:
        path: The file that lists them, for errors.
        students: What it says.

    Raises:
        UserError: If it is no list of mappings with ``arch``, has unknown keys, or names a student twice.
    """
    known = [field.name for field in fields(Student)]
    if not isinstance(students, list):
        raise UserError(f"{path}: `students` must be a list, e.g. [{{arch: resnet18}}].")
    for student in students:
        if not isinstance(student, dict) or not isinstance(student.get("arch"), str):
            raise UserError(
                f"{path}: the student {student!r} must be a mapping with `arch`, e.g. {{arch: resnet18}}."
            )
        for key in student:
            if key not in known:
                raise UserError(
                    f"{path}: unknown key {key!r} of the student {label_of(student)!r}. "
                    f"{suggest(str(key), known)}"
                )
    unnamed = [{k: v for k, v in student.items() if k != "name"} for student in students]
    if twice := _twice(unnamed):
        names = [label_of(s) for s, same in zip(students, unnamed, strict=True) if same == twice[0]]
        raise UserError(
            f"{path}: the student {' or '.join(map(repr, dict.fromkeys(names)))} is listed twice."
        )


def check_seeds(path: Path, seeds: Any) -> None:
    """Refuse a list of seeds that is none; see :func:`check_students`.

    Raises:
        UserError: As :func:`ddoq.seeding.check_seeds`.
    """
    seeding.check_seeds(f"{path}: `seeds`", seeds)


def _twice(items: Sequence[Any]) -> list[Any]:
    return [item for index, item in enumerate(items) if item in items[:index]]


def label_of(student: Mapping[str, Any]) -> str:
    """Return what progress lines and errors call a student: its name, or its architecture."""
    return str(student.get("name") or student.get("arch"))
