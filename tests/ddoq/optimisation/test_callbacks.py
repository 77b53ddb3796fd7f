"""Lines of progress of trainings: there where no bar is seen, and only there."""

import sys

import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from torch.utils.data import TensorDataset

from ddoq.optimisation.fitting import SeededTraining, fit
from ddoq.optimisation.trainers import make_trainer
from ddoq.storage.checkpoints import Checkpoint


class Fitting(SeededTraining):
    def __init__(self):
        super().__init__(0, "test", 0.5, 4)
        self.value = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        loss = ((batch[0] - self.value) ** 2).mean()
        self.record(loss)
        return loss


def lines(capsys, trainer, **options):
    data = TensorDataset(torch.arange(6.0))
    fit(Fitting(), data, batch_size=2, workers=0, trainer=trainer, what="some work", **options)
    return [line for line in capsys.readouterr().out.splitlines() if "some work" in line]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)


@pytest.fixture
def terminal(capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True)


@pytest.mark.parametrize("bar", [True, False, None])
def test_without_a_terminal_there_are_lines_and_no_bar(capsys, bar):
    trainer = {"accelerator": "cpu", "enable_progress_bar": bar}
    said = lines(capsys, trainer)
    assert [line.split(",")[0] for line in said] == [
        f"some work: {step} of 4 steps" for step in (1, 2, 3)
    ]
    assert all(", loss " in line and "to go" in line for line in said)
    assert make_trainer(trainer).progress_bar_callback is None


def test_on_a_terminal_the_bar_takes_their_place(terminal, capsys):
    assert lines(capsys, {"accelerator": "cpu", "enable_progress_bar": True}) == []
    assert isinstance(make_trainer({"accelerator": "cpu"}).progress_bar_callback, ProgressBar)


def test_on_a_terminal_without_a_bar_there_are_lines(capsys, terminal):
    assert len(lines(capsys, {"accelerator": "cpu", "enable_progress_bar": False})) == 3


def test_a_training_that_goes_on_counts_what_was_done(capsys, tmp_path, quiet):
    def checkpoint():
        return Checkpoint(tmp_path / "fit.checkpoint", "key", seconds=0)

    quiet["max_steps"] = 2
    assert len(lines(capsys, quiet, checkpoint=checkpoint())) == 1
    quiet["max_steps"] = -1
    (line,) = lines(capsys, quiet, checkpoint=checkpoint())
    assert line.startswith("some work: 3 of 4 steps")
