"""A prior whose training is killed, in either part, ends with the same bits."""

import json

import pytest
from killing import KillAt, KilledError, KillProcessAt, run_until_killed

from ddoq.data import Digits
from ddoq.errors import UserError
from ddoq.priors import DiTConfig, TrainedPrior, VAEConfig, sources
from ddoq.storage import checkpoints
from ddoq.storage.checkpoints import Checkpoint

VAE = {"channels": (8, 8), "latent_channels": 2, "steps": 5, "batch_size": 8}
DIT = {"layers": 1, "heads": 2, "head_dim": 8, "steps": 5, "batch_size": 8}
DATA = {"image_size": 8, "limit_per_class": 4}
MODULES = ("VAETraining", "DiTTraining")


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(sources, "save_samples", lambda *args, **kwargs: None)  # most of the time


@pytest.fixture
def train(quiet):
    def train(cache, *callbacks, **trainer):
        source = TrainedPrior(VAEConfig(**VAE), DiTConfig(**DIT))
        data = Digits(**DATA)
        data.setup()
        return source.obtain(data, cache, {**quiet, **trainer, "callbacks": callbacks})

    return train


def left(cache):
    return sorted(path.name for path in (cache / "priors").glob(".*checkpoint*"))


def losses(cache):
    (record,) = (cache / "priors").glob("prior-*/training.json")
    both = json.loads(record.read_text())
    return both["vae"]["losses"], both["dit"]["losses"]


@pytest.mark.parametrize(
    ("precision", "kills"),
    [
        ("32-true", [(2, MODULES[0]), (5, MODULES[0]), (5, MODULES[1])]),
        ("bf16-mixed", [(3, MODULES[1])]),
    ],
)
def test_same_bits_whichever_part_is_killed(train, tmp_path, precision, kills):
    whole = train(tmp_path / "whole", precision=precision)
    for kill_at, module in kills:
        cache = tmp_path / f"{module}-{kill_at}"
        with pytest.raises(KilledError):
            train(cache, KillAt(kill_at, module), precision=precision)
        assert len(left(cache)) == 1
        resumed = train(cache, precision=precision)
        assert resumed.fingerprint == whole.fingerprint
        assert losses(cache) == losses(tmp_path / "whole")
        assert left(cache) == []


def test_a_part_that_is_whole_is_not_trained_again(train, tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        train(tmp_path, KillAt(2, MODULES[1]))
    monkeypatch.setattr(sources, "train_vae", None)  # a call would fail with a TypeError
    train(tmp_path)
    assert left(tmp_path) == []


def test_a_process_that_is_killed_at_once(train, tmp_path):
    run_until_killed(train, tmp_path, KillProcessAt(3, MODULES[1]))
    (checkpoint,) = left(tmp_path)
    assert checkpoint.startswith(".prior-")
    assert train(tmp_path).fingerprint == train(tmp_path / "whole").fingerprint
    assert left(tmp_path) == []


def test_a_checkpoint_of_other_settings(train, tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, KillAt(2))
    (path,) = (tmp_path / "priors").glob(".vae-*checkpoint")
    Checkpoint(path, "other").save({}, {})
    with pytest.raises(UserError, match=r"\.checkpoint is a checkpoint of other settings.*delete"):
        train(tmp_path)
