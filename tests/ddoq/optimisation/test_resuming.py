"""A training through Lightning that is killed after any step ends with the bits of one that is not."""

import pytest
import torch
from killing import KillAt, KilledError
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.utils.data import TensorDataset

from ddoq.errors import UserError
from ddoq.optimisation.fitting import SeededTraining, fit
from ddoq.optimisation.trainers import ResumableBatches
from ddoq.storage.checkpoints import Checkpoint

STEPS = 5


class Noisy(SeededTraining):
    """Draws from its own generator and, by dropout, from the global one."""

    def __init__(self, seed=0):
        super().__init__(seed, "test", 0.05, STEPS)
        torch.manual_seed(1)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.ReLU()
        )

    def training_step(self, batch, batch_idx):
        loss = (self.network(batch[0] + self.normal(batch[0].shape)) - 1).square().mean()
        self.record(loss)
        return loss


def train(quiet, checkpoint=None, *, kill_at=None, seed=0, **trainer):
    module = Noisy(seed)
    data = torch.arange(21.0).reshape(7, 3) / 10
    settings = {**quiet, **trainer, "callbacks": [KillAt(kill_at)] if kill_at else []}
    done = fit(
        module,
        TensorDataset(data),
        batch_size=3,
        workers=0,
        trainer=settings,
        callbacks=[EMAWeightAveraging(decay=0.8)],
        checkpoint=checkpoint,
    )
    return module, done


@pytest.fixture
def open_checkpoint(tmp_path):
    return lambda key="key", **options: Checkpoint(
        tmp_path / "fit.checkpoint", key, **{"seconds": 0, **options}
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_same_bits_wherever_it_is_killed(quiet, open_checkpoint, precision):
    whole, record = train(quiet, precision=precision)
    for kill_at in range(1, STEPS + 1):
        with pytest.raises(KilledError):
            train(quiet, open_checkpoint(), kill_at=kill_at, precision=precision)
        module, resumed = train(quiet, open_checkpoint(), precision=precision)
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, module.state_dict()[name]), (kill_at, name)
        assert resumed.losses == record.losses
        assert len(module.curve) == STEPS - kill_at  # the others were done before
        open_checkpoint().clear()


def test_killed_again_and_again(quiet, open_checkpoint):
    whole, record = train(quiet)
    for kill_at in range(1, STEPS):
        with pytest.raises(KilledError):
            train(quiet, open_checkpoint(), kill_at=kill_at)
    module, resumed = train(quiet, open_checkpoint())
    assert len(module.curve) == 1
    assert resumed.losses == record.losses
    assert all(
        torch.equal(one, other)
        for one, other in zip(whole.parameters(), module.parameters(), strict=True)
    )


def test_a_checkpoint_changes_no_bits(quiet, open_checkpoint):
    whole, record = train(quiet)
    module, kept = train(quiet, open_checkpoint())
    assert kept.losses == record.losses
    assert torch.equal(whole.network[0].weight, module.network[0].weight)


def test_seconds_of_all_processes_add_up(quiet, open_checkpoint):
    times = iter(range(1000))
    with pytest.raises(KilledError):
        train(quiet, open_checkpoint(clock=lambda: next(times)), kill_at=3)
    earlier = open_checkpoint(clock=lambda: 0.0)
    earlier.load()
    assert earlier.elapsed > 0
    _, done = train(quiet, open_checkpoint(clock=lambda: 0.0))
    assert done.seconds == earlier.elapsed


def test_other_settings_are_refused_and_damage_begins_anew(quiet, open_checkpoint, capsys):
    checkpoint = open_checkpoint()
    with pytest.raises(KilledError):
        train(quiet, checkpoint, kill_at=2)
    with pytest.raises(UserError, match=r"fit\.checkpoint is a checkpoint of other settings"):
        train(quiet, open_checkpoint("other"))
    content = bytearray(checkpoint.path.read_bytes())
    content[-9] ^= 1
    checkpoint.path.write_bytes(content)
    module, _ = train(quiet, checkpoint)
    whole, _ = train(quiet)
    assert torch.equal(module.network[0].weight, whole.network[0].weight)
    assert "fit.checkpoint is corrupt" in capsys.readouterr().err


def test_short_trainings_write_nothing(quiet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(quiet, Checkpoint(tmp_path / "fit.checkpoint", "key", seconds=60))
    assert list(tmp_path.iterdir()) == []


def test_batches_begin_behind_those_that_were_done():
    def batches():
        return ResumableBatches(4, lambda first: range(first, 4))

    first = batches()
    iterator = iter(first)
    assert [next(iterator), next(iterator)] == [0, 1]
    state = first.state_dict()
    second = batches()
    second.load_state_dict(state)
    assert len(second) == 4
    assert list(second) == [2, 3]
    assert list(second) == [0, 1, 2, 3]  # the next pass is whole
