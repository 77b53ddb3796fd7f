"""Changes one key of a finished run: the caches may only be used where a fresh folder gives the same."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.students.recipes import load_recipe
from ddoq.storage.fingerprints import plain
from faults.scenarios import Scenario, signature
from faults.trials import SAME, WRONG, Trial, reaction, shown
from faults.warm import run

Place = tuple[str | int, ...]
_FAULT = "a key changed beside old caches"
# What says where a run works or how it is watched, not what comes out.
_ASIDE = ("output", "report", "smoke", "force", "wandb", "extends", "distilled")


def whole_config(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Return a scenario's configuration with every default, those of its recipe included."""
    printed = run([*scenario.arguments(folder, folder / "unused"), "--print_config"])
    config: dict[str, Any] = yaml.safe_load(printed.output)
    recipe = config["recipe"]
    values = plain(load_recipe(recipe["name"], recipe["overrides"]))
    recipe["overrides"] = {k: v for k, v in values.items() if k not in ("name", "changed")}
    return config


def leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """List the places in a configuration with what stands there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key), item
        if isinstance(item, (dict, list)):
            yield from leaves(item, (*path, key))


def replaced(config: Any, path: Place, value: Any) -> Any:
    """Return a copy of a configuration with another value in one place."""
    if not path:
        return value
    first, *rest = path
    if isinstance(config, list):
        return [replaced(v, tuple(rest), value) if i == first else v for i, v in enumerate(config)]
    return {k: replaced(v, tuple(rest), value) if k == first else v for k, v in config.items()}


def dotted(path: Place) -> str:
    """Return a place as users write it."""
    return ".".join(map(str, path))


def near(value: Any, draw: random.Random) -> Any:
    """Return another value that may well be legal in the place of a value; None where none comes to mind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(0, value + draw.choice([-1, 1, 2]))
    if isinstance(value, float):
        return value * draw.choice([0.5, 0.9, 1.1, 2.0]) or 0.1
    return None


def change(
    scenario: Scenario, folder: Path, config: dict[str, Any], whole: Path, draw: random.Random
) -> Trial | None:
    """Change one key; run beside the caches of the finished run, and in a fresh folder.

    Args:
        scenario: What was run.
        folder: Where to work.
        config: Its whole configuration.
        whole: The output of the undisturbed run.
        draw: Draws key and value.

    Returns:
        What came of it; None where the key has no other value that comes to mind.
    """
    places = [
        (path, value)
        for path, value in leaves(config)
        if path[0] not in _ASIDE and near(value, random.Random(0)) is not None
    ]
    path, value = draw.choice(places)
    other = near(value, draw)
    if other == value:
        return None
    target = f"{scenario.name}, {dotted(path)}: {value} -> {other}"
    file = folder / "changed.yaml"
    file.write_text(yaml.safe_dump(replaced(config, path, other)))
    numbers, ends = [], []
    for name in ("beside", "fresh"):
        output = folder / f"changed-{name}"
        shutil.rmtree(output, ignore_errors=True)
        if name == "beside":
            shutil.copytree(whole, output)
        before = set(signature(output)) if output.exists() else set()
        finished = run(["fit", "--config", str(file), "--output", str(output)])
        outcome = reaction(finished)
        if outcome is not None and not Trial(_FAULT, target, outcome).allowed:
            return Trial(_FAULT, target, outcome, shown(finished))
        ends.append(outcome)
        numbers.append((before, signature(output)))
        shutil.rmtree(output, ignore_errors=True)
    (old, beside), (_, fresh) = numbers
    same = all(beside.get(name) == row for name, row in fresh.items())
    extra = set(beside) - old - set(fresh)
    if ends[0] != ends[1] or not same or extra:
        return Trial(_FAULT, target, WRONG, f"{ends}, {beside}, {fresh}")
    return Trial(_FAULT, target, SAME if ends[0] is None else ends[0])
