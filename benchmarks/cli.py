"""The command line: `ddoq-bench fit --config ...` and its kin."""

import errno
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.commands.names import COMMANDS
from benchmarks.run.interruption import run_interruptible
from benchmarks.run.parent import watch_parent
from ddoq.errors import UserError, suggest

_HELP = """usage: ddoq-bench COMMAND [options]

Distil an image dataset, train students on nothing but the distilled set, test them on the real test set.

{commands}

ddoq-bench COMMAND --help            every option of a command (takes some seconds)
ddoq-bench fit --config configs/quickstart.yaml
ddoq-bench fit --config configs/datasets/cifar10.yaml --config configs/methods/d4m.yaml --config configs/scales/cpu.yaml
ddoq-bench fit --config C --smoke true       try C from end to end on tiny sizes, in about a minute
ddoq-bench fit --config C --print_config
ddoq-bench fit --config C --model.init_args.ipc 50
"""


def main(args: list[str] | None = None) -> int:
    """Run one command.

    A command's module is imported when it is called for: torch and its kin take seconds.

    Args:
        args: Arguments as on the command line; those of the process where omitted.

    Returns:
        The exit status: 0 done, 1 some results were left out or failed, 2 a mistake in the input, 130 and 143 interrupted
        (128 and the number of the signal).
    """
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    watch_parent()
    return run_interruptible(lambda: _reported(name, rest))


def _reported(name: str, arguments: list[str]) -> int:
    try:
        for argument in (name, *arguments):
            _check_text(argument)
        return _run(name, arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from ddoq.storage.disk import disk_error

        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print(f"error: the name {str(error.filename)[:80]}... is too long", file=sys.stderr)
            return 2
        refused = disk_error(error, Path.cwd())
        if refused is None:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2


def _check_text(argument: str) -> None:
    """Refuse an argument that no file here could keep: results, records and YAML are UTF-8."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UserError(f"{argument!r} is not UTF-8: rename the file or folder.") from None
    if "\0" in argument:
        raise UserError(f"{argument!r} has a character that no name can have.")


def _run(name: str, arguments: list[str]) -> int:
    if name in ("-h", "--help", "help"):
        print(_HELP.format(commands="\n".join(f"  {k:<12} {v.help}" for k, v in COMMANDS.items())))
        return 0
    if name == "--version":
        print(version("ddoq-bench"))
        return 0
    if name not in COMMANDS:
        raise UserError(f"Unknown command {name!r}. {suggest(name, COMMANDS)}")
    module = import_module(f"benchmarks.commands.{COMMANDS[name].module}")
    status: int = module.run(name, arguments)
    return status
