"""A prior whose training is killed, in either part, ends with the same bits."""

import errno
import json
import os

import pytest
import torch
from killing import KillAt, KilledError, KillProcessAt, run_until_killed

from ddoq.data import Digits
from ddoq.errors import UserError
from ddoq.finite import DivergedError, NotFiniteError, check_weights
from ddoq.priors import DiTConfig, TrainedPrior, VAEConfig, sources
from ddoq.priors.training import dit, vae
from ddoq.storage import checkpoints
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.disk import WriteError, writing
from ddoq.storage.files import save_tensors
from ddoq.teachers import TrainedTeacher

VAE = {"channels": (8, 8), "latent_channels": 2, "steps": 5, "batch_size": 8}
DIT = {"layers": 1, "heads": 2, "head_dim": 8, "steps": 5, "batch_size": 8}
DATA = {"image_size": 8, "limit_per_class": 4}
MODULES = ("VAETraining", "DiTTraining")
sources_of = {"VAETraining": vae, "DiTTraining": dit}


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    monkeypatch.setattr(sources, "save_samples", lambda *args, **kwargs: None)  # most of the time


@pytest.fixture
def train(quiet):
    def train(cache, *callbacks, vae=VAE, **options):
        source = TrainedPrior(VAEConfig(**vae), DiTConfig(**DIT), **options)
        data = Digits(**DATA)
        data.setup()
        return source.obtain(data, cache, {**quiet, "callbacks": callbacks})

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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("module", MODULES)
def test_a_training_that_diverges_leaves_nothing(module, value, train, tmp_path, monkeypatch):
    """The third step loses its numbers; the checkpoint of the second must not be found ever after."""
    kind = getattr(sources_of[module], module)
    step = kind.training_step
    monkeypatch.setattr(
        kind,
        "training_step",
        lambda self, batch, index: step(self, batch, index) * (value if index == 2 else 1),
    )
    part = "vae" if module == MODULES[0] else "dit"
    message = rf"diverged: the loss was {value} in step 3 of 5\. Lower prior\.init_args\.{part}\.learning_rate"
    with pytest.raises(DivergedError, match=message):
        train(tmp_path)
    assert left(tmp_path) == []
    kept = [path.name.split("-")[0] for path in (tmp_path / "priors").glob("[!.]*")]
    assert kept == ([] if part == "vae" else ["vae"])  # an autoencoder that is sound is kept


def test_a_transformer_whose_samples_are_not_finite_is_not_kept(train, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise NotFiniteError("Images of the prior are not finite.")

    monkeypatch.setattr(sources, "save_samples", broken)
    with pytest.raises(UserError, match=r"transformer diverged: .*prior\.init_args\.dit\.learning"):
        train(tmp_path)
    assert left(tmp_path) == []
    assert not list((tmp_path / "priors").glob("prior-*"))


def test_an_autoencoder_with_features_ends_with_the_same_bits_too(train, tmp_path):
    options = {
        "vae": {**VAE, "feature_weight": 0.1},
        "features": TrainedTeacher("convnet2-w8-bn", epochs=1, batch_size=16),
    }
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", KillAt(3, MODULES[0]), **options)
    assert len(list(tmp_path.glob("*/teachers/[!.]*"))) == 2
    assert train(tmp_path / "killed", **options).fingerprint == whole.fingerprint
    record = json.loads(next((tmp_path / "whole/priors").glob("vae-*/training.json")).read_text())
    assert record["vae"]["features"]["arch"] == "convnet2-w8-bn"
    assert 0 <= record["vae"]["features"]["accuracy"] <= 1
    assert train(tmp_path / "whole").fingerprint != whole.fingerprint


def test_an_autoencoder_that_collapses_is_not_kept(train, tmp_path, monkeypatch):
    monkeypatch.setattr(vae, "encode_split", lambda *args: torch.zeros(4, 2, 4, 4))
    with pytest.raises(UserError, match=r"collapsed: .*deviation of 0, .*vae\.learning_rate"):
        train(tmp_path)
    assert left(tmp_path) == []
    assert not list((tmp_path / "priors").glob("[!.]*"))


def test_broken_weights_in_the_cache_are_named(train, tmp_path, monkeypatch):
    train(tmp_path)
    monkeypatch.setattr(
        sources, "check_weights", lambda part, what, mend: check_weights(broken, what, mend)
    )
    broken = torch.nn.Linear(1, 1)
    broken.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match=r"The prior in .*prior-.* not finite.*Delete that folder"):
        train(tmp_path)


def test_a_scaling_factor_that_an_earlier_version_kept_is_named(train, tmp_path, monkeypatch):
    def earlier(*args, **kwargs):
        model, record = vae.train_vae(*args, **kwargs)
        model.register_to_config(scaling_factor=float("nan"))
        return model, record

    monkeypatch.setattr(sources, "train_vae", earlier)
    with pytest.raises(UserError, match=r"vae-.* scaling_factor that is not finite.*Delete that"):
        train(tmp_path)


def test_a_disk_that_is_full_at_a_checkpoint_ends_the_training_and_keeps_the_last_one(
    train, tmp_path, monkeypatch
):
    whole = train(tmp_path / "whole")
    saved = []

    def save(path, *content):
        if len(saved) == 2:
            with writing(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        saved.append(path)
        save_tensors(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_tensors", save)
        with pytest.raises(WriteError, match=r"\.checkpoint cannot be written .* MB free.*goes on"):
            train(tmp_path / "full")
    assert left(tmp_path / "full") == [saved[0].name]
    assert not list((tmp_path / "full" / "priors").glob("*unfinished*"))
    assert train(tmp_path / "full").fingerprint == whole.fingerprint
