"""The command `ddoq-bench suite`."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands.options import CommandParser
from benchmarks.run.interruption import PATIENCE, current
from benchmarks.suites.jobs import plan_suite
from benchmarks.suites.runner import STOPPING, Progress, list_jobs, run_plan
from ddoq.errors import UserError
from ddoq.storage.disk import check_output

_SUITE_OPTIONS = ("--output", "--jobs", "--dry-run", "--help", "-h")


def _parser(name: str) -> CommandParser:
    parser = CommandParser(
        name,
        "Run a grid of cells, one process each. What is done is not done again. Further options, "
        "e.g. --recipe.overrides.epochs=10 or --config FILE, are passed on to every process.",
        "At the end leaderboard.md, leaderboard.csv and leaderboard.html are written to OUTPUT/leaderboards/NAME; "
        "they hold the cells of this suite alone, as the table that W&B gets does (`ddoq-bench leaderboard OUTPUT` folds "
        "all results of a folder). Exit status: 0 all is well, 1 a cell has failed or was not run, 2 a mistake in the "
        "suite file or the options, 130 or 143 interrupted.",
    )
    parser.add_argument("suite", type=Path, help="the YAML file of the suite")
    parser.add_argument(
        "--output", type=Path, help="root of caches and results, instead of the file's"
    )
    parser.add_argument("--jobs", type=int, default=1, help="students trained at a time")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="look at every combination, list the jobs and which of them are done; run nothing",
    )
    return parser


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what follows ``ddoq-bench suite`` into the suite's own options and those of its processes.

    Args:
        arguments: As typed.

    Returns:
        The suite's options, and the others, each as ``--KEY=VALUE``.

    Raises:
        UserError: If an option of the processes has no value.

    Example:
        >>> split(["s.yaml", "--jobs", "2", "--recipe.name", "hard", "-c=x.yaml"])
        (['s.yaml', '--jobs', '2'], ['--recipe.name=hard', '-c=x.yaml'])
    """
    suite_options, others = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if flag in _SUITE_OPTIONS or not argument.startswith("-"):
            suite_options.append(argument)
        elif equals:
            others.append(argument)
        else:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{flag} needs a value: it is passed on to every process.")
            others.append(f"{flag}={value}")
    return suite_options, others


def run(name: str, arguments: list[str]) -> int:
    """Run ``ddoq-bench suite``.

    Args:
        name: The command.
        arguments: What follows it.

    Returns:
        0, or 1 if a cell failed or was not run.

    Raises:
        UserError: For a mistake in the suite file or the options.
    """
    suite_options, others = split(arguments)
    options = _parser(name).parse_args(suite_options)
    if options.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {options.jobs}.")
    plan = plan_suite(options.suite, options.output, tuple(others))
    for line in plan.origins:
        print(line, flush=True)
    check_output(plan.output)
    if options.dry_run:
        from benchmarks.commands.suite_check import check_plan  # it imports torch

        check_plan(plan)
        list_jobs(plan)
        return 0
    progress = Progress(len(plan.sets) + len(plan.cells), started=time.monotonic())
    command = shlex.join(["ddoq-bench", name, *arguments])
    current().patience = STOPPING + PATIENCE
    current().hint = lambda: (
        f"{progress.done} of {progress.total} jobs have ended; everything finished so far is kept in {plan.output}; the "
        f"same command goes on from there: {command}"
    )
    return run_plan(plan, options.jobs, progress)
