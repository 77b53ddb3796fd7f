"""Kills runs at random moments and lets them go on: the numbers must be those of a run that nobody touched."""

import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from faults.scenarios import Scenario, save_always, signature
from faults.trials import CRASH, FAILED, REFUSED, SAME, TRACEBACK, WRONG, Trial, reaction, shown
from faults.warm import Finished, Strike, run, run_together

# What shells give for a process that such a signal ended.
_STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
_SHOWN = 800  # characters of each log of a suite that failed
_LAST = 300.0  # seconds that a run may take to its end, a suite with its processes included
_TOO_OFTEN = 5  # kills of one run before it may end


def reference(scenario: Scenario, folder: Path) -> tuple[dict[str, Any], float]:
    """Run a scenario undisturbed.

    Args:
        scenario: What to run.
        folder: Where; the run's output is its folder ``reference-NAME``.

    Returns:
        Its numbers, and its seconds.

    Raises:
        RuntimeError: If it fails or leaves no numbers.
    """
    output = folder / f"reference-{scenario.name}"
    finished = run(scenario.arguments(folder, output), prepare=save_always)
    numbers = signature(output)
    if finished.status != 0 or not numbers:
        raise RuntimeError(f"The undisturbed run of {scenario.name} failed: {shown(finished)}")
    return numbers, finished.seconds


def kills(
    scenario: Scenario,
    folder: Path,
    expected: Mapping[str, Any],
    seconds: float,
    draw: random.Random,
    number: signal.Signals = signal.SIGKILL,
) -> Iterator[Trial]:
    """Kill a run up to five times at random moments, then let it end; a trial for each kill that hit.

    Args:
        scenario: What to run.
        folder: Where.
        expected: The numbers of the undisturbed run.
        seconds: How long that took.
        draw: Draws the moments.
        number: The signal.

    Yields:
        A trial for each signal that reached a running process.
    """
    output = folder / f"killed-{scenario.name}"
    shutil.rmtree(output, ignore_errors=True)
    arguments = scenario.arguments(folder, output)
    fault = f"{number.name} at a random moment"
    hits: list[tuple[str, Finished]] = []
    for _ in range(draw.randint(1, _TOO_OFTEN)):
        moment = draw.uniform(0.0, seconds)
        finished = run(arguments, strike=Strike(moment, number), prepare=save_always)
        if finished.status == 0:
            break
        hits.append((f"{scenario.name}, after {moment:.2f} s of {seconds:.1f}", finished))
    last = run(arguments, limit=_LAST, prepare=save_always)
    jobs = sorted(output.glob("suite/*.log")) if last.status else []
    logs = "".join(path.read_text(errors="replace")[-_SHOWN:] for path in jobs)
    for target, finished in hits:
        yield _trial(fault, target, finished, last, number, signature(output) == expected, logs)
    shutil.rmtree(output, ignore_errors=True)


def together(
    scenario: Scenario, folder: Path, expected: Mapping[str, Any], copies: int = 2
) -> list[Trial]:
    """Start the same run several times at once: all must end well, with the numbers of one alone."""
    output = folder / f"together-{scenario.name}"
    shutil.rmtree(output, ignore_errors=True)
    arguments = scenario.arguments(folder, output)
    ended = run_together([arguments] * copies, prepare=save_always)
    same = signature(output) == expected
    trials = []
    for finished in ended:
        outcome = reaction(finished) or (SAME if same else WRONG)
        outcome = (
            CRASH if outcome in (REFUSED, FAILED) else outcome
        )  # no error is in its place here
        target = f"{scenario.name}, {copies} at once"
        trials.append(Trial("the same run twice at once", target, outcome, shown(finished)))
    shutil.rmtree(output, ignore_errors=True)
    return trials


def _trial(
    fault: str,
    target: str,
    finished: Finished,
    last: Finished,
    number: signal.Signals,
    same: bool,
    logs: str = "",
) -> Trial:
    if number is signal.SIGKILL:
        if finished.status != -number:
            return Trial(fault, target, CRASH, shown(finished))
    else:
        if "Traceback (most recent call last)" in finished.errors:
            return Trial(fault, target, TRACEBACK, shown(finished))
        if finished.status != _STATUS[number]:
            return Trial(fault, target, CRASH, shown(finished))
    if (outcome := reaction(last)) is not None:
        return Trial(fault, target, CRASH if outcome != TRACEBACK else outcome, shown(last) + logs)
    return Trial(fault, target, SAME) if same else Trial(fault, target, WRONG, shown(last))
