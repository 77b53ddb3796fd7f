"""A block of images that is killed in the middle ends with the same bits."""

import json
import os
import signal

import lightning as L
import pytest
import torch
from killing import KilledError, run_until_killed
from torch import nn

from baselines.sre2l import SRe2L, recover
from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.storage.checkpoints import Checkpoint
from ddoq.storage.files import load_tensors
from ddoq.teachers import Teacher

ITERATIONS = 5
SETTINGS = {"ipc": 1, "iterations": ITERATIONS, "jitter": 2, "crop_scale": (0.3, 1.0)}
CPU = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Stopping(nn.Module):
    """A network that stops at a forward pass: before the iteration of this number, counted from 0."""

    def __init__(self, network, number, stop):
        super().__init__()
        self.network, self.number, self.stop = network, number, stop
        self.passes = 0

    def forward(self, images):
        if self.passes == self.number:
            self.stop()
        self.passes += 1
        return self.network(images)


def kill():
    raise KilledError


def kill_process():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def data(make_data):
    return make_data(num_classes=3, per_class=4)


@pytest.fixture
def run(data):
    """Distil with checkpoints at every iteration; return the set."""

    def run(root, kill_at=None, stop=kill, precision="32-true", **changes):
        torch.manual_seed(0)
        network = build_network("convnet2-w8-bn", data.num_classes, data.image_size)
        network(torch.randn(32, 3, data.image_size, data.image_size))
        teacher = Teacher(
            network.eval(),
            arch="convnet2-w8-bn",
            class_names=data.classes.names,
            class_keys=data.classes.keys,
            image_size=data.image_size,
            accuracy=0.5,
        )
        distiller = SRe2L(**{**SETTINGS, **changes}, precision=precision)
        distiller.checkpoint_seconds = 0.0
        distiller.attach(data, teacher=teacher)
        if kill_at is not None:
            teacher.network = Stopping(teacher.network, kill_at, stop).eval()
        return distiller.run(L.Trainer(**CPU), root)[0]

    return run


def left(root):
    return [path for path in root.rglob("*") if "checkpoint" in path.name]


def infos(root):
    """Read the losses and so on of all shards."""
    records = [load_tensors(path)[1] for path in sorted(root.glob("shards/*/*.safetensors"))]
    return json.dumps([record["info"] for record in records])


@pytest.mark.parametrize(
    ("changes", "precision"),
    [({}, "32-true"), ({"ipc": 2, "class_block": 2, "groups_per_step": 2}, "bf16-mixed")],
)
def test_same_bits_wherever_it_is_killed(run, tmp_path, changes, precision):
    whole = run(tmp_path / "whole", precision=precision, **changes)
    for kill_at in range(1, ITERATIONS + 1):
        root = tmp_path / str(kill_at)
        with pytest.raises(KilledError):
            # The last one is killed while the teacher judges the images.
            run(root, kill_at, precision=precision, **changes)
        assert len(left(root)) == 1
        resumed = run(root, precision=precision, **changes)
        assert resumed.fingerprint == whole.fingerprint
        assert infos(root) == infos(tmp_path / "whole")
        assert left(root) == []


def test_a_process_that_is_killed_at_once(run, tmp_path):
    root = tmp_path / "killed"
    run_until_killed(run, root, 3, kill_process)
    (path,) = left(root)
    kept = Checkpoint(path, load_tensors(path)[1]["key"]).load()
    assert kept is not None
    assert kept[1]["done"] == 3
    assert run(root).fingerprint == run(tmp_path / "whole").fingerprint


def test_iterations_are_not_done_twice(run, tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        run(tmp_path, 3)
    steps = []
    descend = recover._Iterate.descend
    monkeypatch.setattr(
        recover._Iterate,
        "descend",
        lambda self, *terms: steps.append(1) or descend(self, *terms),
    )
    run(tmp_path)
    assert len(steps) == ITERATIONS - 3


def test_a_checkpoint_of_other_settings(run, tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, 3)
    (path,) = left(tmp_path)
    Checkpoint(path, "other").save({}, {})
    with pytest.raises(UserError, match=r"is a checkpoint of other settings.*delete it"):
        run(tmp_path)


def test_lines_of_progress_name_the_block(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    run(tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "image-0000" in line]
    assert [line.split(", loss")[0] for line in lines] == [
        f"sre2l, image-0000-classes-0000: {done} of 5 steps" for done in range(1, ITERATIONS)
    ]
