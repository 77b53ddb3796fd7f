"""Lines for the user, printed once however many ranks there are."""

import sys
import time
from collections.abc import Callable
from typing import SupportsFloat

from lightning_utilities.core.rank_zero import rank_zero_only

# Seconds between two lines of progress.
PAUSE = 30.0


def say(text: str) -> None:
    """Print a line on rank 0 only.

    Args:
        text: The line.

    Example:
        >>> say("prior: reused")
        prior: reused
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        return
    tqdm = sys.modules.get("tqdm")
    if tqdm is not None and sys.stdout.isatty():
        tqdm.tqdm.write(text)  # above bars, which would otherwise begin in the middle of a line
    else:
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Write a time span with the two units that matter.

    Example:
        >>> [duration(s) for s in (0.4, 59, 61, 3600, 7325, 200000)]
        ['0 s', '59 s', '1 min 1 s', '1 h 0 min', '2 h 2 min', '2 d 7 h']
    """
    whole = round(seconds)
    for size, unit, small_size, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small_size} {small_unit}"
    return f"{whole} s"


class Progress:
    """Lines on how far a long work is: at most one in so many seconds, none for work that is shorter.

    They go where no progress bar is, e.g. into the log of a job without a terminal.

    Args:
        what: The work, e.g. ``prior, autoencoder``.
        total: How many units there are.
        unit: Their name, in the plural.
        done: How many were done before this process began.
        seconds: Time between two lines, and before the first; None takes :data:`PAUSE`.
        clock: Gives seconds; tests put in their own.

    Example:
        >>> times = iter([0.0, 10.0, 40.0, 40.0])
        >>> progress = Progress("prior", 100, clock=lambda: next(times))
        >>> progress.update(5, loss=0.5)
        >>> progress.update(20, loss=0.25)
        prior: 20 of 100 steps, loss 0.25, 0.5 steps a second, 2 min 40 s to go
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        unit: str = "steps",
        done: int = 0,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._first = done
        self._pause = PAUSE if seconds is None else seconds
        self._clock = clock
        self._started = self._printed = clock()

    def due(self) -> bool:
        """Say whether :meth:`update` would print, for callers to whom counting is work."""
        return self._clock() - self._printed >= self._pause

    def update(self, done: int, *, loss: SupportsFloat | None = None) -> None:
        """Print a line if it is time, and if there is something left to do.

        Args:
            done: Units that are done, those of earlier processes included.
            loss: The latest loss; a tensor is read from its device only where a line is printed.
        """
        if done >= self._total or not self.due():
            return
        now = self._clock()
        self._printed = now
        parts = [f"{self._what}: {done:,} of {self._total:,} {self._unit}"]
        if loss is not None:
            parts.append(f"loss {float(loss):.4g}")
        rate = (done - self._first) / max(now - self._started, 1e-9)
        if rate > 0:
            shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
            parts.append(f"{shown} {self._unit} a second")
            parts.append(f"{duration((self._total - done) / rate)} to go")
        say(", ".join(parts))
