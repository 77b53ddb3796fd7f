"""Look at every combination of a suite before it runs: what each process would refuse at its start."""

import contextlib
import io
from collections.abc import Iterator, Sequence

from lightning.pytorch.utilities.seed import isolate_rng

from benchmarks.commands.configured import BenchCLI, configure
from benchmarks.students.student import Student
from benchmarks.suites.file import DISTILL_SEED
from benchmarks.suites.jobs import Job, Plan
from ddoq.costs.workload import Sizes
from ddoq.errors import UserError

_LISTED = 10  # problems that are printed
_CLASSES = 10  # how many a dataset has is known once it is read


def check_plan(plan: Plan) -> None:
    """Parse every combination of a suite and build its method, dataset source and students, but read no dataset.

    Args:
        plan: The jobs. Those that differ in seeds alone are looked at once.

    Raises:
        UserError: If some would fail; it names them and says why.
    """
    problems: dict[str, str] = {}
    looked_at: set[tuple[str, ...]] = set()
    built: set[tuple[str, int]] = set()
    for job in (*plan.sets, *plan.cells):
        arguments = tuple(_without_seeds((*job.defaults, *job.arguments)))
        if arguments in looked_at:
            continue
        looked_at.add(arguments)
        try:
            cli = _parsed(job, arguments)
            if cli.model is not None and cli.model.ipc < 1:
                raise UserError(f"ipc must be at least 1, not {cli.model.ipc}.")
            _check_students(cli, built)
        except UserError as error:
            problems.setdefault(str(error), job.name)
    if problems:
        lines = [f"{name}: {text}" for text, name in problems.items()]
        more = [f"and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
        raise UserError(
            "\n  ".join([f"{plan.name} would fail:", *lines[:_LISTED], *more])
            if len(lines) > 1
            else f"{plan.name} would fail: {lines[0]}"
        )


def _parsed(job: Job, arguments: Sequence[str]) -> BenchCLI:
    with contextlib.redirect_stderr(io.StringIO()):  # notes, which the process gives itself
        return configure(job.command, list(arguments), build_trainer=False)


def _check_students(cli: BenchCLI, built: set[tuple[str, int]]) -> None:
    """Build the students, each once for images of a size."""
    data = cli.datamodule
    sizes = Sizes(_CLASSES, _CLASSES, _CLASSES, data.image_size, 1, data.mean, data.std)
    students: list[Student] = cli.config_init["students"]
    for student in students:
        if (key := (repr(student), data.image_size)) not in built:
            with isolate_rng():
                student.build(sizes)
            built.add(key)


def _without_seeds(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        key = argument.partition("=")[0]
        if key not in ("--seeds", f"--{DISTILL_SEED}"):
            yield argument
