"""Two equal commands in one output at once: the work is done once, and both end well with the same rows."""

import json
import multiprocessing
from pathlib import Path

import pytest
import yaml
from killing import Fork

import benchmarks.commands.configured  # noqa: F401 - once, instead of in every fork
from benchmarks.cli import main

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


def config(folder: Path, **changes) -> list[str]:
    digits = {"limit_per_class": 12, "test_limit_per_class": 5}
    content = {
        "data": {"class_path": "Digits", "init_args": digits},
        "model": {"class_path": "DDOQ", "init_args": {"ipc": 1}},
        "recipe": {"name": "hard", "overrides": {"epochs": 12}},
        "students": [{"arch": "convnet2-w8"}, {"arch": "convnet2-w16"}],
        "output": str(folder / "runs"),
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return ["--config", str(TINY), "--config", str(folder / "config.yaml")]


def run_twice(folder: Path, command: str, arguments: list[str]) -> list[str]:
    """Run a command twice at once and return what was printed."""
    start = multiprocessing.get_context("fork").Barrier(2)

    def run() -> int:
        start.wait()
        return main([command, *arguments])

    forks = [Fork(folder / name, run) for name in ("first", "second")]
    assert [fork.status() for fork in forks] == [0, 0], [f.output.read_text() for f in forks]
    return [fork.output.read_text() for fork in forks]


def test_fit(tmp_path):
    arguments = config(tmp_path)
    printed = run_twice(tmp_path, "fit", arguments)
    runs = tmp_path / "runs"
    assert not (runs / "failures").exists()
    results = sorted((runs / "results").iterdir())
    assert len(results) == 2
    tables = {text[text.index("student  ") :] for text in printed}
    assert len(tables) == 1
    for path in results:  # nothing of one process is mixed into the other's
        record = json.loads(path.read_text())
        folder = next((runs / "students").glob(f"*-{path.stem}"))
        epochs = (folder / "curves" / "metrics.csv").read_text().count("\n") - 1
        assert epochs >= len(record["metrics"]["curve"])
    assert not list(runs.rglob("*.checkpoint"))
    assert len(list(runs.glob("distilled/*/images.png"))) == 1
    assert main(["fit", *arguments]) == 0


@pytest.mark.parametrize("command", ["prior", "teacher"])
def test_parts_are_trained_once(command, tmp_path):
    printed = run_twice(tmp_path, command, config(tmp_path))
    assert sum("trained in" in text for text in printed) == 1


def test_distill(tmp_path):
    printed = run_twice(tmp_path, "distill", config(tmp_path))
    assert len({text[text.index("distilled set:") :] for text in printed}) == 1  # seconds included
    assert len(list((tmp_path / "runs").glob("shards/*/*.safetensors"))) == 10
