"""Tiny runs that between them write every kind of file: what is done harm to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ddoq.distillation.items import ItemRunner
from ddoq.storage import checkpoints

_TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
_DIGITS = {
    "class_path": "Digits",
    "init_args": {"limit_per_class": 8, "test_limit_per_class": 8},
}
_RECIPE = {"name": "unified", "overrides": {"epochs": 3}}
_STUDENTS = [
    {"name": "convnet", "arch": "convnet2-w8"},
    {"name": "narrow", "arch": "convnet2-w4"},
]
_PRIOR = {
    "vae": {"channels": [8, 8], "layers_per_block": 1, "steps": 12, "batch_size": 8},
    "dit": {"layers": 1, "heads": 2, "head_dim": 8, "patch_size": 2, "steps": 12, "batch_size": 8},
}


@dataclass(frozen=True)
class Scenario:
    """One configuration that is harmed.

    Attributes:
        name: For the report.
        config: What differs from the tiny configuration of the tests.
        suite: Further keys of a suite over it; None where it is run by itself.
    """

    name: str
    config: Mapping[str, Any]
    suite: Mapping[str, Any] | None = None

    def arguments(self, folder: Path, output: Path, command: str = "fit") -> list[str]:
        """Write the configuration to a folder and return a command that runs it."""
        path = _written(folder / f"{self.name}.yaml", {"extends": [str(_TINY)], **self.config})
        if self.suite is None:
            return [command, "--config", str(path), "--output", str(output)]
        suite = {"configs": [path.name], "output": str(output), **self.suite}
        return ["suite", str(_written(folder / f"{output.name}-suite.yaml", suite))]


def _written(path: Path, value: Mapping[str, Any]) -> Path:
    if not path.exists():
        path.write_text(yaml.safe_dump(dict(value)))
    return path


def _scenario(name: str, model: dict[str, Any], **changes: Any) -> Scenario:
    config = {"data": _DIGITS, "model": model, "recipe": _RECIPE, "students": _STUDENTS, **changes}
    return Scenario(name, config)


DDOQ = _scenario(
    "ddoq",
    {"class_path": "DDOQ", "init_args": {"ipc": 2}},
    prior={"class_path": "TrainedPrior", "init_args": _PRIOR},
    recipe={"name": "unified", "overrides": {"epochs": 3, "labels": "stored", "label_top_k": 5}},
)
SRE2L = _scenario(
    "sre2l",
    {"class_path": "SRe2L", "init_args": {"ipc": 3, "iterations": 12, "jitter": 2}},
    teacher={
        "class_path": "TrainedTeacher",
        "init_args": {"arch": "convnet2-w8-bn", "stem": None, "epochs": 3},
    },
)
DM = _scenario("dm", {"class_path": "DM", "init_args": {"ipc": 2, "iterations": 4}})
SUITE = Scenario("suite", DDOQ.config, {"seeds": [0, 1]})
SCENARIOS = (DDOQ, SRE2L, DM)


def save_always() -> None:
    """Let trainings and methods keep a checkpoint after every step, not every minute."""
    checkpoints.INTERVAL = 0.0
    ItemRunner.checkpoint_seconds = 0.0


def signature(output: Path) -> dict[str, Any]:
    """Return the numbers of a run that must not depend on what happened to it.

    Args:
        output: The run's folder.

    Returns:
        By name of the result file: its cell, accuracies, losses, and fingerprints of set and teacher.
    """
    return {path.stem: _numbers(path) for path in sorted((output / "results").glob("*.json"))}


def _numbers(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    teacher = record["teacher"] or {}
    return {
        "cell": record["cell"],
        "metrics": _without_times(record["metrics"]),
        "distilled": record["distilled"]["fingerprint"],
        "teacher": [teacher.get("fingerprint"), teacher.get("accuracy_distilled")],
    }


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if "seconds" not in k}
    return [_without_times(item) for item in value] if isinstance(value, list) else value
