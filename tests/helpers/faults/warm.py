"""Runs the command line in forks of this process, where torch and its kin are imported already."""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# All that a command imports: a fork starts with it, in milliseconds where a new interpreter takes many seconds.
import benchmarks.commands.configured
import benchmarks.commands.leaderboard
import benchmarks.configuration.options  # noqa: F401
from benchmarks.cli import main

_PAUSE = 0.005  # seconds between two looks at a process
GIGABYTE = 2**30


@dataclass(frozen=True)
class Finished:
    """How a process ended.

    Attributes:
        status: Its exit status; the negative number of the signal that ended it; None where it was over time.
        output: What it printed.
        errors: What it printed to the error stream.
        seconds: How long it ran.
    """

    status: int | None
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Strike:
    """A signal that a run gets after some seconds."""

    seconds: float
    signal: int = signal.SIGKILL


def run(arguments: Sequence[str], **how: Any) -> Finished:
    """Run one command in a process of its own, see :func:`run_together`."""
    (finished,) = run_together([arguments], **how)
    return finished


def run_together(
    commands: Sequence[Sequence[str]],
    *,
    limit: float = 120.0,
    strike: Strike | None = None,
    prepare: Callable[[], object] | None = None,
    memory: int = 16 * GIGABYTE,
) -> list[Finished]:
    """Run commands at the same time, a process each.

    Args:
        commands: The arguments of each, as on the command line, without the program's name.
        limit: Seconds after which all are killed as hanging.
        strike: A signal that each gets on the way.
        prepare: Called in each process before its command, e.g. to go to another folder.
        memory: Bytes of address space that each may take.

    Returns:
        How they ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        running = []
        for index, arguments in enumerate(commands):
            output, errors = Path(folder, f"{index}.output"), Path(folder, f"{index}.errors")
            process = os.fork()
            if process == 0:
                _child(arguments, output, errors, prepare, memory)
            with contextlib.suppress(OSError):  # the child does so, too: whoever comes first
                os.setpgid(process, 0)
            running.append((process, output, errors))
        ended = []
        for process, output, errors in running:
            status = _wait(process, started, limit, strike)
            seconds = time.monotonic() - started
            ended.append(Finished(status, _text(output), _text(errors), seconds))
        return ended


def _wait(process: int, started: float, limit: float, strike: Strike | None) -> int | None:
    """Wait for a process, and give it its signal; None where it hangs and is killed with its children."""
    pending = strike
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        elapsed = time.monotonic() - started
        if pending is not None and elapsed >= pending.seconds:
            os.kill(process, pending.signal)  # its children are for it to end
            pending = None
        if elapsed > limit:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(_PAUSE)


def _child(
    arguments: Sequence[str],
    output: Path,
    errors: Path,
    prepare: Callable[[], object] | None,
    memory: int,
) -> None:
    """Run the command and leave the process; nothing of the parent's is torn down."""
    status = 99
    try:
        os.setpgid(0, 0)
        for path, number in ((output, 1), (errors, 2)):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.dup2(handle, number)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, errors="backslashreplace")  # noqa: SIM115
        for number in (
            signal.SIGTERM,
            signal.SIGHUP,
        ):  # a background job may have been told to ignore them
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if prepare is not None:
            prepare()
        status = main(list(arguments))
    except SystemExit as leaving:
        code = leaving.code
        status = code if isinstance(code, int) else 0 if code is None else 1
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - whatever escapes is what is looked for
        traceback.print_exc()
        status = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
