"""The loop: every item once before any comes again, and one step per batch."""

import lightning as L
import pytest
import torch
from torch.utils.data import TensorDataset

from ddoq.data.splits import TensorSplit
from ddoq.optimisation.fitting import Images, SeededTraining, fit
from ddoq.optimisation.trainers import device_of, make_trainer


class Fitting(SeededTraining):
    """Fit one number to data, and keep what was seen."""

    def __init__(self, steps, seed=0):
        super().__init__(seed, "test", 0.5, steps)
        self.value = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen += batch[0].tolist()
        loss = ((batch[0] - self.value) ** 2).mean() + 0 * self.normal((2,)).sum()
        self.record(loss)
        return loss


def test_steps_order_and_losses(quiet):
    module = Fitting(steps=60)
    done = fit(module, TensorDataset(torch.arange(10.0)), batch_size=4, workers=0, trainer=quiet)
    assert len(module.curve) == 60
    assert len(done.losses) == 50
    assert done.losses[-1] < done.losses[0]
    assert abs(float(module.value) - 4.5) < 1.0
    assert sorted(module.seen[:10]) == list(range(10))
    assert module.seen[:10] != module.seen[10:20]
    assert done.seconds > 0


def test_seed_decides_the_order(quiet):
    seen = []
    for seed in (0, 0, 1):
        module = Fitting(steps=5, seed=seed)
        fit(module, TensorDataset(torch.arange(10.0)), batch_size=2, workers=0, trainer=quiet)
        seen.append(module.seen)
    assert seen[0] == seen[1] != seen[2]


def test_asking_for_several_devices_trains_on_one(quiet):
    settings = {**quiet, "devices": 2, "strategy": "ddp", "max_epochs": 7, "logger": True}
    loop = make_trainer(settings)
    assert (loop.num_devices, loop.max_epochs, loop.loggers) == (1, 1, [])
    assert device_of(settings).type == "cpu"
    fit(
        Fitting(steps=2),
        TensorDataset(torch.arange(4.0)),
        batch_size=2,
        workers=0,
        trainer=settings,
    )


def test_images_are_read_in_batches():
    split = TensorSplit(torch.arange(5 * 12).reshape(5, 3, 2, 2).to(torch.uint8), torch.zeros(5))
    images = Images(split)
    assert len(images) == 5
    torch.testing.assert_close(torch.stack(images.__getitems__([3, 1])), split.images[[3, 1]])
    torch.testing.assert_close(images[2], split.images[2])


@pytest.mark.parametrize(
    ("devices", "taken"), [([3], [3]), ([2, 5], [2]), (1, 1), (4, 1), ("auto", 1), (None, 1)]
)
def test_a_rank_stays_on_its_own_device(monkeypatch, quiet, devices, taken):
    """No GPU is needed to see which one Lightning is asked for."""
    asked = []
    monkeypatch.setattr(L, "Trainer", lambda **settings: asked.append(settings))
    make_trainer({**quiet, "accelerator": "cuda", "devices": devices})
    assert asked[0]["devices"] == taken
