"""A teacher whose training is killed, in any epoch, ends with the same bits."""

import pytest
import torch
from killing import KillAt, KilledError, KillProcessAt, run_until_killed

from ddoq.data import Digits
from ddoq.errors import UserError
from ddoq.storage import checkpoints
from ddoq.storage.checkpoints import Checkpoint
from ddoq.teachers import TrainedTeacher, training

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}
# Two epochs of three steps.
OPTIONS = {"arch": "convnet2-w8-bn", "epochs": 2, "batch_size": 20, "lr": 0.05, "hflip": True}
DATA = {"image_size": 16, "limit_per_class": 6}


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)


def train(cache, *callbacks, options=OPTIONS, **trainer):
    settings = {**TRAINER, **trainer, "callbacks": callbacks}
    data = Digits(**DATA)
    data.setup()
    return TrainedTeacher(**options).obtain(data, cache, settings)


def left(cache):
    return sorted(path.name for path in (cache / "teachers").glob(".*checkpoint*"))


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (OPTIONS, "32-true"),
        ({**OPTIONS, "optimizer": "adamw"}, "bf16-mixed"),
        ({**OPTIONS, "channels_last": False, "arch": "convnet2-w8"}, "32-true"),
        ({**OPTIONS, "schedule": "cosine", "warmup": 0.5, "crop_scale": (0.3, 1.0)}, "32-true"),
    ],
)
def test_same_bits_wherever_it_is_killed(tmp_path, options, precision):
    options = {**options, "precision": precision}
    whole = train(tmp_path / "whole", options=options)
    for kill_at in range(1, 7):
        cache = tmp_path / str(kill_at)
        with pytest.raises(KilledError):
            train(cache, KillAt(kill_at), options=options)
        assert len(left(cache)) == 1
        resumed = train(cache, options=options)
        assert resumed.fingerprint == whole.fingerprint, kill_at
        assert resumed.accuracy == whole.accuracy
        assert left(cache) == []


def test_nothing_is_done_twice(tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        train(tmp_path, KillAt(4))
    steps = []
    step = training.TeacherModule.training_step
    monkeypatch.setattr(
        training.TeacherModule,
        "training_step",
        lambda self, batch, index: steps.append(self.current_epoch) or step(self, batch, index),
    )
    train(tmp_path)
    assert steps == [1, 1]  # of three in each of the epochs 0 and 1


def test_streamed_images_and_networks_that_draw(tmp_path, monkeypatch):
    """A checkpoint keeps the generator of dropout, and a loader opens behind what was read."""
    monkeypatch.setattr(training, "fits", lambda num_bytes, device: False)
    options = {
        **OPTIONS,
        "arch": "vit_tiny_patch16_224",
        "kwargs": {"patch_size": 8, "depth": 1, "embed_dim": 24, "drop_rate": 0.3},
        "optimizer": "adamw",
        "lr": 0.01,
    }
    whole = train(tmp_path / "whole", options=options)
    for kill_at in (2, 4):
        with pytest.raises(KilledError):
            train(tmp_path / str(kill_at), KillAt(kill_at), options=options)
        torch.manual_seed(kill_at)
        resumed = train(tmp_path / str(kill_at), options=options)
        assert resumed.fingerprint == whole.fingerprint


def test_a_process_that_is_killed_at_once(tmp_path):
    run_until_killed(train, tmp_path, KillProcessAt(4))
    assert len(left(tmp_path)) == 1
    resumed = train(tmp_path)
    assert resumed.fingerprint == train(tmp_path / "whole").fingerprint
    assert resumed.training_record["seconds"] > 0
    assert left(tmp_path) == []


def test_a_checkpoint_of_other_settings(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, KillAt(2))
    (path,) = (tmp_path / "teachers").glob(".*checkpoint")
    Checkpoint(path, "other").save({}, {})
    with pytest.raises(UserError, match=r"\.checkpoint is a checkpoint of other settings.*delete"):
        train(tmp_path)
    path.unlink()
    assert train(tmp_path).accuracy > 0


def test_a_training_that_diverged_leaves_nothing_to_go_on_from(tmp_path):
    with pytest.raises(UserError, match="diverged"):
        train(tmp_path, options={**OPTIONS, "lr": 1e30})
    assert left(tmp_path) == []
