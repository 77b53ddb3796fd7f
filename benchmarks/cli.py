"""The command line: `ddoq-bench fit --config ...` and its kin."""

import os
import sys
from collections.abc import Callable
from importlib import import_module

from benchmarks.commands.names import COMMANDS

# Commands that need no model, data or trainer, and so none of the parser that describes these.
_LIGHT = {
    "compare": "benchmarks.statistics.comparison:main",
    "export": "benchmarks.commands.exchange:export_main",
    "import": "benchmarks.commands.exchange:import_main",
    "leaderboard": "benchmarks.leaderboard.board:main",
    "report": "benchmarks.leaderboard.report:main",
    "suite": "benchmarks.suites.runner:main",
}

_HELP = """usage: ddoq-bench COMMAND [options]

Distil an image dataset, train students on nothing but the distilled set, test them on the real test set.

{commands}

ddoq-bench COMMAND --help            every option of a command (takes some seconds)
ddoq-bench fit --config configs/quickstart.yaml
ddoq-bench fit --config C --print_config
ddoq-bench fit --config C --model.init_args.ipc 50
"""


def main(args: list[str] | None = None) -> int:
    """Run one command.

    Torch and its kin are imported only by the commands that need them.

    Args:
        args: Arguments as on the command line; those of the process where omitted.

    Returns:
        The exit status: 0 done, 1 some results were left out or failed, 2 a mistake in the input.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    try:
        return _main(arguments)
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP.format(commands="\n".join(f"  {k:<12} {v}" for k, v in COMMANDS.items())))
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("ddoq-bench"))
        return 0
    return _run(arguments)


def _command(name: str) -> Callable[[list[str]], int]:
    from ddoq.errors import UserError, suggest

    if name in _LIGHT:
        module, _, function = _LIGHT[name].partition(":")
        command: Callable[[list[str]], int] = getattr(import_module(module), function)
        return command
    if name in COMMANDS:
        from benchmarks.commands.configured import run

        return lambda rest: run([name, *rest])
    raise UserError(f"Unknown command {name!r}. {suggest(name, COMMANDS)}")


def _run(arguments: list[str]) -> int:
    from ddoq.errors import UserError

    try:
        return _command(arguments[0])(arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
