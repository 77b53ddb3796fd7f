"""Deals faults out in chunks, runs the chunks in several processes and gathers their trials."""

import random
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from faults.caches import change, whole_config
from faults.damage import HARM, damage, kinds_of_files
from faults.disk import can_mount, fill
from faults.inputs import attempt, malformed
from faults.kills import kills, reference, together
from faults.scenarios import SCENARIOS, SUITE, Scenario
from faults.trials import Trial

_PATIENCE = 3  # runs for each kill that is wanted
_BLOCK = 4096  # bytes of a file system's block


@dataclass(frozen=True)
class Chunk:
    """Some faults of one kind, done one after another.

    Attributes:
        kind: A key of :data:`KINDS`.
        tries: How many.
        seed: Draws them.
    """

    kind: str
    tries: int
    seed: int


def _kills(scenario: Scenario, number: signal.Signals) -> Callable[[Chunk, Path], list[Trial]]:
    def do(chunk: Chunk, folder: Path) -> list[Trial]:
        draw, trials = random.Random(chunk.seed), []
        expected, seconds = reference(scenario, folder)
        for _ in range(_PATIENCE * chunk.tries):  # some moments come after the end
            trials += kills(scenario, folder, expected, seconds, draw, number)
            if len(trials) >= chunk.tries:
                return trials
        raise RuntimeError(f"{number.name} hardly ever reaches a run of {scenario.name}.")

    return do


def _of_any(chunk: Chunk, folder: Path, number: signal.Signals) -> list[Trial]:
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    return _kills(scenario, number)(chunk, folder)


def _files(chunk: Chunk, folder: Path) -> list[Trial]:
    """Damage files of every kind in turn, each with another harm than the chunk before."""
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    draw = random.Random(chunk.seed)
    expected, _ = reference(scenario, folder)
    whole = folder / f"reference-{scenario.name}"
    kinds = list(kinds_of_files(whole).values())
    turn = chunk.seed // len(SCENARIOS) * chunk.tries
    trials = []
    for index in range(turn, turn + chunk.tries):
        path = draw.choice(kinds[index % len(kinds)])
        harm = HARM[(index // len(kinds) + index) % len(HARM)]
        trials.append(damage(scenario, folder, whole, expected, path, harm, draw))
    return trials


def _disks(chunk: Chunk, folder: Path) -> list[Trial]:
    if not can_mount(folder):
        return []
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    draw, trials = random.Random(chunk.seed), []
    expected, _ = reference(scenario, folder)
    files = (folder / f"reference-{scenario.name}").rglob("*")
    size = sum((path.stat().st_size // _BLOCK + 1) * _BLOCK for path in files)
    for _ in range(chunk.tries):
        trials += fill(scenario, folder, expected, size, draw)
    return trials


def _keys(chunk: Chunk, folder: Path) -> list[Trial]:
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    draw = random.Random(chunk.seed)
    reference(scenario, folder)
    whole, config = folder / f"reference-{scenario.name}", whole_config(scenario, folder)
    trials: list[Trial] = []
    while len(trials) < chunk.tries:
        trials += filter(None, [change(scenario, folder, config, whole, draw)])
    return trials


def _inputs(chunk: Chunk, folder: Path) -> list[Trial]:
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    reference(scenario, folder)
    whole, config = folder / f"reference-{scenario.name}", whole_config(scenario, folder)
    trials: list[Trial] = []

    @seed(chunk.seed)
    @settings(
        max_examples=chunk.tries,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(malformed(config))
    def walk(drawn):
        trials.append(attempt(drawn, scenario, folder, whole))

    walk()
    return trials


def _together(chunk: Chunk, folder: Path) -> list[Trial]:
    scenario = SCENARIOS[chunk.seed % len(SCENARIOS)]
    expected, _ = reference(scenario, folder)
    trials: list[Trial] = []
    while len(trials) < chunk.tries:
        trials += together(scenario, folder, expected)
    return trials


KINDS: dict[str, Callable[[Chunk, Path], list[Trial]]] = {
    "kill": lambda chunk, folder: _of_any(chunk, folder, signal.SIGKILL),
    "terminate": lambda chunk, folder: _of_any(chunk, folder, signal.SIGTERM),
    "interrupt": lambda chunk, folder: _of_any(chunk, folder, signal.SIGINT),
    "kill suites": _kills(SUITE, signal.SIGKILL),
    "terminate suites": _kills(SUITE, signal.SIGTERM),
    "files": _files,
    "disks": _disks,
    "keys": _keys,
    "inputs": _inputs,
    "together": _together,
}


def chunks(kind: str, tries: int, size: int) -> Iterator[Chunk]:
    """Divide the tries of a kind into chunks."""
    for index, start in enumerate(range(0, tries, size)):
        yield Chunk(kind, min(size, tries - start), index)


def do(chunk: Chunk) -> list[Trial]:
    """Do a chunk in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return KINDS[chunk.kind](chunk, Path(folder))


def campaign(
    todo: Iterable[Chunk], workers: int, show: Callable[[Chunk, list[Trial]], object]
) -> list[Trial]:
    """Do chunks in several processes.

    Args:
        todo: The chunks.
        workers: Processes at a time.
        show: Called with each chunk as it ends.

    Returns:
        All trials, in the order of the chunks.
    """
    todo = list(todo)
    # Fresh interpreters: what hypothesis or torch keeps in this one must not reach the forks.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(do, chunk): chunk for chunk in todo}
        done = {}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            show(futures[future], future.result())
    return [trial for chunk in todo for trial in done[chunk]]
