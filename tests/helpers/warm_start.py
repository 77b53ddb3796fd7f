"""Starts Python processes as forks of one interpreter that has imported torch and its kin, which takes seconds, once.

Each begins as `python` begins it, with arguments, environment, working directory and output of its own, and with nothing of
what other tests have left in this process; only its imports are there already. So do the ranks that Lightning launches in it.
"""

import contextlib
import functools
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_Stream = int | IO[Any] | None


class Process:
    """A process, with those methods of ``subprocess.Popen`` that the suite, its tests and Lightning call.

    Args:
        command: This interpreter, then ``-m`` and a module, ``-c`` and code, or a script, then arguments.
        env: The whole environment; this process's where omitted.
        cwd: Its folder; this process's where omitted.
        stdin: As for ``Popen``; ``PIPE`` is not known here.
        stdout: Likewise.
        stderr: Likewise.
        process_group: 0 makes it the first of a group.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdin: _Stream = None,
        stdout: _Stream = None,
        stderr: _Stream = None,
        process_group: int | None = None,
    ) -> None:
        assert command[0] == sys.executable
        self.args, self.returncode = command, None
        self._lock, self._received = threading.Lock(), b""
        request = {
            "arguments": [str(part) for part in command[1:]],
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd or Path.cwd()),
            "group": process_group == 0,
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_address())
        with contextlib.ExitStack() as opened:
            streams = [_number(given, at, opened) for at, given in enumerate((stdin, stdout))]
            streams.append(
                streams[1] if stderr == subprocess.STDOUT else _number(stderr, 2, opened)
            )
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self._connection, [message], streams)
            self._connection.sendall(message[sent:])
        self.pid = self._read(None)

    def _read(self, timeout: float | None) -> int:
        """Read the next number that the keeper sends."""
        self._connection.settimeout(timeout)
        while b"\n" not in self._received:
            received = self._connection.recv(64)
            assert received, "the process's keeper is gone"
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return int(line)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the status."""
        with self._lock:
            if self.returncode is None:
                try:
                    self.returncode = self._read(timeout)
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            return self.returncode

    def poll(self) -> int | None:
        """Return the status, or None for a process that runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """Send a signal to a process that runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str], env: Mapping[str, str], timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end and return what it printed, as ``subprocess.run`` does."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = Process(command, env=env, stdout=output, stderr=errors)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        printed = []
        for file in (output, errors):
            file.seek(0)
            printed.append(file.read())
    return subprocess.CompletedProcess(list(command), status, *printed)


def warm_subprocess() -> types.SimpleNamespace:
    """Return what a module that imports ``subprocess`` can be given in its place, to start processes this way."""
    return types.SimpleNamespace(**{**vars(subprocess), "Popen": Process})


def _number(given: _Stream, default: int, opened: contextlib.ExitStack) -> int:
    """Return the file descriptor that is meant."""
    if given is None:
        return default
    if given == subprocess.DEVNULL:
        return opened.enter_context(open(os.devnull, "r+b")).fileno()
    return given if isinstance(given, int) else given.fileno()


@functools.cache
def _address() -> str:
    """Return where the interpreter that forks listens; it is started when it is first asked for."""
    if _given:
        return _given[0]
    folder = tempfile.mkdtemp(
        prefix="warm-"
    )  # a path within a test's folder is too long for a socket
    address = str(Path(folder, "socket"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        number = listener.fileno()
        command = [sys.executable, __file__, address, str(number)]
        # It ends with the pipe to it, which is open as long as this process lives.
        server = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[number])
    _servers.append(server)
    return address


_servers: list[subprocess.Popen[bytes]] = []
_given: list[str] = []  # in a process that was started this way, where to ask for others


def _serve(listener: socket.socket) -> bool:
    """Fork a keeper for each request; return True in a process that is to run one, else False at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need nobody to ask for their status
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            return False
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _keep(connection)
                return True


def _keep(connection: socket.socket) -> None:
    """Fork the process itself, in which this returns, and tell its number and its status."""
    message, numbers, _, _ = socket.recv_fds(connection, 2**16, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(2**16)
    request = json.loads(message)
    process = os.fork()
    if process == 0:
        if request["group"]:
            os.setpgid(0, 0)
        _become(request, numbers)
        return
    for number in numbers:
        os.close(number)
    if request["group"]:
        with contextlib.suppress(OSError):  # the process does so, too: whoever comes first
            os.setpgid(process, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{process}\n".encode())
        ended = os.pidfd_open(process)
        ready, _, _ = select.select([ended, connection], [], [])
        # Else whoever started it is gone, and so is this one, its parent: that is what the process may watch.
        if ended in ready:
            _, status = os.waitpid(process, 0)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: Mapping[str, Any], numbers: Sequence[int]) -> None:
    """Take over what a new process is given."""
    for place, number in enumerate(numbers):
        os.dup2(number, place)
        os.close(number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["arguments"]


def _run_arguments() -> None:
    """Run what the arguments name, as the interpreter does."""
    first, *rest = sys.argv
    if first in ("-m", "-c"):
        sys.path.insert(0, "" if first == "-c" else str(Path.cwd()))
        what, sys.argv = rest[0], [first, *rest[1:]]
        if first == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


def _main() -> None:
    sys.path.remove(str(Path(__file__).parent))
    # All that commands import, and what ranks need.
    import lightning.pytorch.strategies.launchers.subprocess_script as launcher
    import torch.distributed  # noqa: F401

    address, number = sys.argv[1:]
    gc.freeze()
    if _serve(socket.socket(fileno=int(number))):
        _given.append(address)
        launcher.subprocess = warm_subprocess()
        _run_arguments()


if __name__ == "__main__":
    _main()
