"""A network that learns without labels: trained once, resumable, the same bits whatever the labels are."""

import pytest
import torch
from killing import KillAt, KilledError

from ddoq.costs.workload import Sizes
from ddoq.data import TensorSplit
from ddoq.distillation.ingredient import prepare_all
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.self_supervised import BarlowTwins
from ddoq.self_supervised.barlow_twins import features_of
from ddoq.storage import checkpoints

SETTINGS = {
    "arch": "convnet2-w8-bn",
    "stem": None,
    "epochs": 3,
    "batch_size": 16,
    "hidden": 16,
    "optimizer": "adamw",
    "lr": 0.003,
    "crop_scale": (0.5, 1.0),
}
CPU = {"accelerator": "cpu", "devices": 1}
ON_CPU = torch.device("cpu")


@pytest.fixture
def data(coloured_noise):
    return coloured_noise(per_class=16)


def prepare(data, root, *callbacks, **changes) -> BarlowTwins:
    made = BarlowTwins(**SETTINGS | changes)
    made.check(data)
    prepare_all({"target_model": made}, data, root, {**CPU, "callbacks": list(callbacks)})
    return made


def test_it_is_trained_once_and_loaded_as_it_was(data, tmp_path, capsys):
    first = prepare(data, tmp_path)
    assert "trained, in" in capsys.readouterr().out
    again = prepare(data, tmp_path)
    assert "reused, in" in capsys.readouterr().out
    assert again.fingerprint == first.fingerprint
    assert again.facts() == first.facts()
    images = torch.randn(5, 3, 8, 8)
    features = features_of(first.network(ON_CPU), images, batch_size=2)
    assert features.shape == (5, first.width) == (5, 8 * 2 * 2)
    assert torch.allclose(features, features_of(again.network(ON_CPU), images), atol=1e-6)
    assert not any(p.requires_grad for p in first.network(ON_CPU).parameters())


def test_the_loss_falls(data, tmp_path):
    made = prepare(data, tmp_path, epochs=15)
    losses = made._record["losses"]
    assert losses[-1] < 0.8 * losses[0]


def test_it_reads_no_labels(data, tmp_path):
    whole = prepare(data, tmp_path / "whole")
    data.train = TensorSplit(data.train.images, data.train.labels.roll(1))
    assert prepare(data, tmp_path / "permuted").fingerprint == whole.fingerprint


@pytest.mark.parametrize(("optimizer", "steps"), [("adamw", (4,)), ("lars", (1, 8))])
def test_a_kill_changes_no_bit(data, tmp_path, monkeypatch, optimizer, steps):
    monkeypatch.setattr(checkpoints, "INTERVAL", 0.0)
    whole = prepare(data, tmp_path / "whole", optimizer=optimizer)
    for step in steps:
        root = tmp_path / str(step)
        with pytest.raises(KilledError):
            prepare(data, root, KillAt(step), optimizer=optimizer)
        torch.manual_seed(step)
        resumed = prepare(data, root, optimizer=optimizer)
        assert resumed.fingerprint == whole.fingerprint, step
        assert resumed._record["losses"] == whole._record["losses"]
        assert not list((root / "ingredients").glob(".*.checkpoint"))


def test_seed_and_settings_decide(data, tmp_path):
    fingerprints = {
        prepare(data, tmp_path, **changes, epochs=1).fingerprint
        for changes in ({}, {"seed": 1}, {"blur": (1.0, 0.1)})
    }
    assert len(fingerprints) == 3
    assert len([p for p in (tmp_path / "ingredients").iterdir() if p.is_dir()]) == 3


def test_divergence_is_said_and_nothing_is_kept(data, tmp_path):
    with pytest.raises(
        DivergedError, match=r"self-supervised convnet2-w8-bn diverged.*target_model\.lr"
    ):
        prepare(data, tmp_path, lr=1e30, epochs=20)
    assert not [p for p in (tmp_path / "ingredients").iterdir() if p.is_dir()]
    assert not list((tmp_path / "ingredients").glob(".*.checkpoint"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "target_model.epochs"),
        ({"batch_size": 1}, "target_model.batch_size"),
        ({"lr": 0.0}, "target_model.lr"),
        ({"optimizer": "sdg"}, "Unknown target_model.optimizer 'sdg'"),
        ({"crop_scale": (0.5, 0.1)}, "target_model.crop_scale"),
        ({"warmup": 1.0}, "target_model.warmup"),
        ({"blur": (2.0, 0.0)}, "target_model.blur"),
        ({"grey": -0.1}, "target_model.grey"),
        ({"jitter": (0.4, 0.4, 0.2, 3.0)}, "target_model.jitter"),
        ({"arch": "convnet9"}, "leaves nothing"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(data, changes, words):
    with pytest.raises(UserError, match=words):
        BarlowTwins(**SETTINGS | changes).check(data)


def test_any_network_of_the_suite_by_name(coloured_noise, tmp_path):
    data = coloured_noise(per_class=4, image_size=32)
    made = BarlowTwins(
        arch="resnet10t", kwargs={"stem_width": 8, "channels": [4, 4, 4, 6]}, epochs=1
    )
    made.check(data)
    prepare_all({"target_model": made}, data, tmp_path, CPU)
    assert made.width == 6
    assert BarlowTwins()._draw(32)[1] == 512  # a ResNet-18, as the papers have it


def test_workload_counts_both_views():
    sizes = Sizes(10, 1000, 100, 16, 100)
    (one,) = BarlowTwins(**SETTINGS | {"epochs": 1}).workload(sizes)
    (two,) = BarlowTwins(**SETTINGS | {"epochs": 2}).workload(sizes)
    assert (one.passes, two.passes) == (2 * 992, 4 * 992)
