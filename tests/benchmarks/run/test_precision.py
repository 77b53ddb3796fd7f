"""The trainer's precision is that of students: it acts on nothing that is made before them."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.cli import main

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
DATA = {"limit_per_class": 6, "test_limit_per_class": 3, "image_size": 16}
SAMPLING = {"num_inference_steps": 2}


@pytest.fixture
def fit(tmp_path):
    content = {
        "data": {"class_path": "Digits", "init_args": DATA},
        "model": {"class_path": "DDOQ", "init_args": {"ipc": 1, "sampling": SAMPLING}},
        "recipe": {"name": "unified", "overrides": {"epochs": 2}},
        "output": str(tmp_path / "runs"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    layers = ["--config", str(TINY), "--config", str(tmp_path / "config.yaml")]
    return lambda *more: main(["fit", *layers, *more])


def test_every_precision_trains_students_on_the_same_set(fit, tmp_path):
    precisions = ["32-true", "bf16-mixed", "bf16-true", "64-true", "32"]
    for precision in precisions:
        assert fit(f"--trainer.precision={precision}") == 0, precision
    made = tmp_path / "runs"
    assert len(list(made.glob("priors/prior-*"))) == 1
    for parts in ("teachers/*", "latents/*", "shards/*", "distilled/*"):
        assert len([path for path in made.glob(parts) if path.is_dir()]) == 1, parts
    results = [json.loads(path.read_text()) for path in made.glob("results/*.json")]
    # "32" is another spelling of the first, and no cell of its own.
    assert sorted(r["config"]["precision"] for r in results) == sorted(precisions[:4])
    assert {r["config"]["distilled"]["context"]["precision"] for r in results} == {"32-true"}


@pytest.mark.parametrize("precision", ["16-true", "16-mixed", "16", "transformer-engine"])
def test_what_students_cannot_be_trained_in_is_refused_at_once(fit, tmp_path, capsys, precision):
    assert fit(f"--trainer.precision={precision}") == 2
    error = capsys.readouterr().err
    assert f"trainer.precision {precision} cannot train students" in error
    assert "use one of 32-true, 64-true, bf16-mixed, bf16-true." in error
    assert not (tmp_path / "runs").exists()
