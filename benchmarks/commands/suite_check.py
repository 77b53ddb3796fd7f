"""Look at every combination of a suite before it runs: what each process would refuse at its start."""

import contextlib
import io
import json
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.commands.configured import BenchCLI, configure
from benchmarks.graphs.running import check_graph_students
from benchmarks.students.student import Student
from benchmarks.suites.file import DISTILL_SEED
from benchmarks.suites.jobs import Plan
from ddoq.costs.workload import Sizes
from ddoq.errors import UserError

_VARIED = ("--students", "--seeds", f"--{DISTILL_SEED}")
_LISTED = 10  # problems that are printed
_CLASSES = 10  # how many a dataset has is known once it is read


def check_plan(plan: Plan) -> None:
    """Parse every combination of a suite and build its method, dataset source and students, but read no dataset.

    Args:
        plan: The jobs. Those that differ in student and seed alone are looked at once.

    Raises:
        UserError: If some would fail; it names them and says why.
    """
    problems: dict[str, str] = {}
    built: set[tuple[str, int]] = set()
    for arguments, (name, students) in _combinations(plan).items():
        try:
            cli = _parsed((*arguments, f"--students={json.dumps(students)}"))
            if cli.model is not None and cli.model.ipc < 1:
                raise UserError(f"ipc must be at least 1, not {cli.model.ipc}.")
            cli.check_keys()
            _check_students(cli, built)
        except UserError as error:
            problems.setdefault(str(error), name)
    if problems:
        lines = [f"{name}: {text}" for text, name in problems.items()]
        more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        raise UserError(
            "\n  ".join([f"{plan.name} would fail:", *lines[:_LISTED], *more])
            if len(lines) > 1
            else f"{plan.name} would fail: {lines[0]}"
        )


def _combinations(plan: Plan) -> dict[tuple[str, ...], tuple[str, list[Any]]]:
    """Group cells that differ in student and seed alone: their arguments, with a name and all students of these."""
    groups: dict[tuple[str, ...], tuple[str, list[Any]]] = {}
    for cell in plan.cells:
        options = [(argument, *argument.split("=", 1)) for argument in cell.arguments]
        kept = tuple(argument for argument, key, *_ in options if key not in _VARIED)
        _, students = groups.setdefault(
            (*cell.defaults, *kept), (cell.name.rpartition(": ")[0] or cell.name, [])
        )
        for _, key, *value in options:
            if key == "--students":
                students += [item for item in json.loads(value[0]) if item not in students]
    return groups


def _parsed(arguments: Sequence[str]) -> BenchCLI:
    with contextlib.redirect_stderr(io.StringIO()):  # notes, which the process gives itself
        return configure("fit", list(arguments), build_trainer=False)


def _check_students(cli: BenchCLI, built: set[tuple[str, int]]) -> None:
    """Build the students, each once for images of a size."""
    data = cli.datamodule
    if cli.on_graphs:
        check_graph_students(cli.config_init["students"], data.holds)
        return
    sizes = Sizes(_CLASSES, _CLASSES, _CLASSES, data.image_size, 1, data.mean, data.std)
    students: list[Student] = cli.config_init["students"]
    for student in students:
        if (key := (repr(student), data.image_size)) not in built:
            with isolate_rng():
                student.build(sizes)
            built.add(key)
