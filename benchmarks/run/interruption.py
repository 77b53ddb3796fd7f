"""How a command ends when it is asked to: its processes end, one line says how to go on, the status names the signal."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a scheduler, a terminal that was closed
PATIENCE = 10.0  # seconds that the main thread has to end in order
_ECHO = 1.0  # seconds in which a second signal is the first one, sent by two (the terminal and a launcher)
_AGAIN = 0.02  # seconds until a main thread is asked again, out of the destructor that it was in
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal that asks the process to end.

    Libraries let a ``KeyboardInterrupt`` through, which no ``except Exception`` does with a student's failure.
    """


class Interruption:
    """What a command does once it is asked to end.

    The main thread gets an :class:`Interrupted`, and has some seconds to unwind. It may sit in a collective or in a long
    computation where no Python runs: a second thread, which the signal wakes whatever the main one does, then ends the
    process, and does so at once at a second signal. Files are written atomically, so that this loses nothing that a
    kill would not.

    Attributes:
        number: The signal; None as long as there was none.
        hint: Returns the line for the user, without its first word.
        patience: Seconds that the main thread has.
        children: Called with False to ask processes to end, and with True to kill them.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.hint: Callable[[], str] = lambda: (
            "everything finished so far is kept; run the same command to go on"
        )
        self.patience = PATIENCE
        self.children: list[Callable[[bool], None]] = []
        self._armed = False
        self._spoken = threading.Lock()
        self._before: dict[int, Any] = {}

    def status(self, status: int) -> int:
        """Return the exit status: that of the signal, once it is told, or what is given where there was none."""
        if self.number is None:
            return status
        if self._to_say():
            print(f"interrupted: {self.hint()}", file=sys.stderr, flush=True)
        return 128 + self.number

    @contextlib.contextmanager
    def child(self, end: Callable[[bool], None]) -> Iterator[None]:
        """End processes with this one, as long as the block runs.

        Args:
            end: See :attr:`children`.
        """
        self.children.append(end)
        try:
            yield
        finally:
            self.children.remove(end)

    def install(self) -> Callable[[], None]:
        """Listen to signals, those that are ignored (``nohup``) left out; return what undoes it."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._raise)
        threading.Thread(
            target=self._watch, args=(reader,), daemon=True, name="interruption"
        ).start()

        unraisable, sys.unraisablehook = sys.unraisablehook, self._swallowed

        def undo() -> None:
            sys.unraisablehook = unraisable
            self.restore(wakeup)
            writer.close()  # ends the thread, which closes the other end

        return undo

    def restore(self, wakeup: int = -1) -> None:
        """Give signals back to those who had them."""
        if not self._before:
            return
        with contextlib.suppress(ValueError):  # of a thread that was forked and is not the main one
            signal.set_wakeup_fd(wakeup)
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def arm(self, armed: bool) -> None:
        """Say whether a signal raises, or is only remembered; one that is remembered raises now."""
        self._armed = armed
        if armed and self.number is not None:
            self._raise(self.number, None)

    def _raise(self, number: int, _: FrameType | None) -> None:
        self.number = self.number or number
        if self._armed:
            self._armed = False  # once: what ends in order is left in peace
            raise Interrupted

    def _swallowed(self, lost: "sys.UnraisableHookArgs") -> None:
        """Ask again where an :class:`Interrupted` was raised in a destructor, which Python lets nothing out of."""
        if not issubclass(lost.exc_type, Interrupted) or self.number is None:
            sys.__unraisablehook__(lost)
            return
        self._armed = True
        main = threading.main_thread().ident
        if main is not None and hasattr(
            signal, "pthread_kill"
        ):  # which also wakes what it sleeps in
            threading.Timer(_AGAIN, signal.pthread_kill, (main, self.number)).start()

    def _watch(self, reader: socket.socket) -> None:
        with reader:
            number = self._next(reader, None)
            if number is None:
                return
            self.number = self.number or number
            began = time.monotonic()
            self._end_children(False)
            while (left := began + self.patience - time.monotonic()) > 0:
                try:
                    if self._next(reader, left) is None:
                        return
                except TimeoutError:
                    break
                if time.monotonic() - began > _ECHO:
                    break
        self._end_children(True)
        if self._to_say():  # not through a stream, whose lock the main thread may hold
            with contextlib.suppress(OSError):
                os.write(2, f"interrupted: {self.hint()}\n".encode(errors="replace"))
        os._exit(128 + self.number)

    def _next(self, reader: socket.socket, seconds: float | None) -> int | None:
        """Wait for a signal that is ours; None says that nobody listens any more."""
        reader.settimeout(seconds)
        while received := reader.recv(1):
            if received[0] in self._before:
                return received[0]
        return None

    def _end_children(self, kill: bool) -> None:
        for end in list(self.children):
            with contextlib.suppress(OSError):
                end(kill)

    def _to_say(self) -> bool:
        """Say whether the user is to be told now: once, and of several ranks by the first alone."""
        first = all(os.environ.get(name, "0") == "0" for name in _RANKS)
        return self._spoken.acquire(blocking=False) and first


_current = Interruption()


def current() -> Interruption:
    """Return what the command that runs does at a signal."""
    return _current


def run_interruptible(run: Callable[[], int]) -> int:
    """Run a command, and listen to signals meanwhile.

    Python lets only the main thread handle signals: in another one nothing is changed.

    Args:
        run: Returns an exit status.

    Returns:
        The exit status: the command's, or 128 and the number of the signal that ended it.
    """
    global _current
    before, _current = _current, Interruption()
    interruption = _current
    main = threading.current_thread() is threading.main_thread()
    undo = interruption.install() if main else lambda: None
    try:
        interruption.arm(True)
        status = run()
        interruption.arm(False)
    except BaseException:  # whatever a library makes of an Interrupted
        interruption.arm(False)
        if interruption.number is None:
            raise
        status = 1
    finally:
        undo()
        _current = before
    return interruption.status(status)


def _forget() -> None:
    """Let a fork, e.g. a worker of a loader, take signals as if nobody listened."""
    global _current
    before, _current = _current, Interruption()
    before.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
