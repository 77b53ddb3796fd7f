import pytest
import torch
from killing import KilledError
from torch.nn import functional as F

from baselines.bilp import LossRanking
from baselines.bilp.ranking import _Trainings
from ddoq.storage.checkpoints import Checkpoint

SETTINGS = {"arch": "convnet2-w4", "epochs": 3, "networks": 2, "batch_size": 16, "lr": 0.05}
WHERE = {"accelerator": "cpu", "devices": 1}


def prepared(data, folder, **changes) -> LossRanking:
    ranking = LossRanking(**(SETTINGS | changes))
    ranking.prepare(data, folder, WHERE)
    return ranking


def test_losses_are_those_of_each_image_along_each_training(coloured_noise, tmp_path):
    data = coloured_noise()
    ranking = prepared(data, tmp_path / "ranking")
    assert ranking.losses.shape == (2, 3, 60)
    means = ranking.losses.mean(dim=2)
    assert (means.diff(dim=1) < 0).all()  # they learn
    assert not torch.equal(ranking.losses[0], ranking.losses[1])
    one = prepared(data, tmp_path / "one", networks=1, epochs=1, batch_size=60)
    network = one.network(3, 8)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=0.0005)
    images = data.train.images / 255
    images = (images - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[
        :, None, None
    ]
    F.cross_entropy(network(images), data.train.labels).backward()
    optimizer.step()
    expected = F.cross_entropy(network(images), data.train.labels, reduction="none")
    torch.testing.assert_close(one.losses[0, 0], expected.detach(), rtol=1e-3, atol=1e-4)


def test_it_is_made_once(coloured_noise, tmp_path):
    data = coloured_noise()
    first = prepared(data, tmp_path / "ranking")
    again = prepared(data, tmp_path / "ranking")
    assert first.fingerprint == again.fingerprint
    assert again.facts() == first.facts()
    with pytest.raises(RuntimeError, match="call prepare"):
        _ = LossRanking().losses


def test_a_killed_training_goes_on_with_the_same_bits(coloured_noise, tmp_path, monkeypatch):
    data = coloured_noise()
    whole = prepared(data, tmp_path / "whole")
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    learn, done = _Trainings._learn, []

    def killed(self, *keys):
        if keys == (1, 1) and not done.count("killed"):
            done.append("killed")
            raise KilledError
        done.append(keys)
        learn(self, *keys)

    monkeypatch.setattr(_Trainings, "_learn", killed)
    with pytest.raises(KilledError):
        prepared(data, tmp_path / "killed")
    resumed = prepared(data, tmp_path / "killed")
    assert done == [(0, 0), (0, 1), (0, 2), (1, 0), "killed", (1, 1), (1, 2)]
    assert resumed.fingerprint == whole.fingerprint
    assert not list(tmp_path.rglob("*.checkpoint"))
