"""Lets runs meet a full disk: their output lies on a small file system in memory."""

import random
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.scenarios import Scenario, save_always, signature
from faults.trials import BLOCKED, REFUSED, SAME, WRONG, Trial, reaction, shown
from faults.warm import run

_FAULT = "disk full, then enlarged"
_ENOUGH = 64 * 2**20  # bytes
_BLOCK = 4096


def can_mount(folder: Path) -> bool:
    """Say whether this user may mount a file system."""
    try:
        with _small_disk(folder / "probe", _BLOCK):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def fill(
    scenario: Scenario,
    folder: Path,
    expected: Mapping[str, Any],
    size: int,
    draw: random.Random,
) -> Iterator[Trial]:
    """Run on a disk too small, enlarge it, and run again.

    Args:
        scenario: What to run.
        folder: Where to mount the disk.
        expected: The numbers of the undisturbed run.
        size: Bytes that the whole run takes.
        draw: Draws the size of the disk.

    Yields:
        A trial for the run on the small disk, and one for the run after it.
    """
    space = max(_BLOCK, int(draw.uniform(0.0, 1.0) * size))
    target = f"{scenario.name}, {space:,} of {size:,} bytes"
    with _small_disk(folder / "disk", space) as disk:
        arguments = scenario.arguments(folder, disk / "runs")
        finished = run(arguments, prepare=save_always)
        outcome = reaction(finished, ["No space left", "full", "space", str(disk)])
        numbers = signature(disk / "runs")
        if outcome is None:
            outcome = SAME if numbers == expected else WRONG
        yield Trial("disk full", target, outcome, shown(finished))
        _mount("-o", f"remount,size={_ENOUGH}", str(disk))
        again = run(arguments, prepare=save_always)
        if (second := reaction(again)) is None:
            second = SAME if signature(disk / "runs") == expected else WRONG
        elif second == REFUSED:  # there is room now: an error is one too many
            second = BLOCKED
        yield Trial(_FAULT, target, second, shown(again))


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
