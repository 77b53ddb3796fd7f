"""The long run of the fault tests: hundreds of kills, damaged files and malformed inputs, written down as a page.

Run from the root of the checkout: ``PYTHONPATH=.:tests/helpers python tests/faults/long_run.py --output docs/reliability.md``.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from faults.campaign import Chunk, campaign, chunks
from faults.report import page
from faults.trials import Trial

_CHUNK = {"inputs": 50, "files": 25, "kill": 20, "keys": 10, "kill suites": 3}
_COUNTS = {
    "kill": 200,
    "terminate": 20,
    "interrupt": 20,
    "kill suites": 3,
    "terminate suites": 1,
    "files": 200,
    "disks": 20,
    "keys": 40,
    "inputs": 1000,
    "together": 12,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign, write its page, and say by the exit status whether all outcomes are allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind, count in _COUNTS.items():
        parser.add_argument(f"--{kind.replace(' ', '-')}", type=int, default=count, metavar="TRIES")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="the page")
    parser.add_argument("--append", action="store_true", help="keep the runs that the page has")
    parser.add_argument("--failures", type=Path, help="JSON of what was not allowed")
    given = vars(parser.parse_args(arguments))
    started = time.monotonic()
    todo = [
        chunk
        for kind in _COUNTS
        for chunk in chunks(kind, given[kind.replace(" ", "_")], _CHUNK.get(kind, 10))
    ]
    todo.sort(key=lambda chunk: chunk.seed)  # of every kind some early, so that faults show soon
    trials = campaign(todo, given["workers"], _show)
    command = ["PYTHONPATH=.:tests/helpers", "python", "tests/faults/long_run.py"]
    for kind, count in _COUNTS.items():  # nothing that names a place on this machine
        option = kind.replace(" ", "-")
        if given[option.replace("-", "_")] != count:
            command += [f"--{option}", str(given[option.replace("-", "_")])]
    command += ["--output", "docs/reliability.md", *(["--append"] if given["append"] else [])]
    before = given["output"].read_text(encoding="utf-8") if given["append"] else ""
    text = page(trials, " ".join(command), time.monotonic() - started, before)
    given["output"].write_text(text, encoding="utf-8")
    wrong = [vars(trial) for trial in trials if not trial.allowed]
    if given["failures"]:
        given["failures"].write_text(json.dumps(wrong, indent=2, ensure_ascii=False))
    print(f"{len(trials)} faults, {len(wrong)} outcomes that are not allowed")
    return 1 if wrong else 0


def _show(chunk: Chunk, trials: list[Trial]) -> None:
    wrong = [trial for trial in trials if not trial.allowed]
    print(f"{chunk.kind} {chunk.seed}: {len(trials)} tries, {len(wrong)} not allowed", flush=True)
    for trial in wrong:
        last = (trial.detail.strip().splitlines() or [""])[-1]
        print(f"  {trial.fault} | {trial.target} | {trial.outcome} | {last[:200]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
