from pathlib import Path

import pytest
import torch
import yaml
from killing import KilledError

from baselines.ftd import FTD
from baselines.mtt import MTT
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.trajectories import ExpertTrajectories

CONFIGS = Path(__file__).parents[3] / "configs"
EXPERTS = {"arch": "convnet1-w4", "count": 2, "epochs": 3, "batch_size": 16, "lr": 0.05}
SETTINGS = {"ipc": 2, "iterations": 5, "steps": 3, "max_start_epoch": 2, "lr": 5.0}


def run(kind, data, trainer, root, experts=(), **changes):
    method = kind(experts=ExpertTrajectories(**EXPERTS | dict(experts)), **SETTINGS | changes)
    method.checkpoint_seconds = 0
    method.attach(data)
    return method.run(trainer, root)[0]


def test_with_all_at_zero_it_is_mtt_bit_for_bit(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    mtt = run(MTT, data, trainer, tmp_path)
    flat = run(FTD, data, trainer, tmp_path, {"rho": 0.0, "alpha": 0.0}, ema=0.0)
    assert torch.equal(mtt.images, flat.images)
    assert mtt.metadata["statistics"] == flat.metadata["statistics"]
    for experts, ema in (({"rho": 0.05}, 0.0), ({}, 0.9)):
        other = run(FTD, data, trainer, tmp_path, experts, ema=ema)
        assert not torch.equal(mtt.images, other.images)


def test_the_set_is_the_average_of_the_images(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    seen = []

    class Watched(FTD):
        def segment(self, step, like):
            seen.append(self.watched.pixels.images.detach().clone())
            return super().segment(step, like)

        def start(self):
            self.watched = super().start()
            return self.watched

    averaged = run(Watched, data, trainer, tmp_path, ema=0.75)
    last = run(Watched, data, trainer, tmp_path, ema=0.0)
    expected = seen[0]
    for images in [*seen[1:5], last.images]:
        expected = 0.75 * expected + 0.25 * images
    torch.testing.assert_close(averaged.images, expected)


def test_a_killed_run_ends_with_the_same_bits(coloured_noise, trainer, tmp_path):
    class Killed(FTD):
        def segment(self, step, like):
            if step == 3:
                raise KilledError
            return super().segment(step, like)

    flat = {"rho": 0.05, "alpha": 0.3}
    whole = run(FTD, coloured_noise(), trainer, tmp_path / "whole", flat, ema=0.9)
    with pytest.raises(KilledError):
        run(Killed, coloured_noise(), trainer, tmp_path / "killed", flat, ema=0.9)
    resumed = run(FTD, coloured_noise(), trainer, tmp_path / "killed", flat, ema=0.9)
    assert torch.equal(resumed.images, whole.images)


def test_a_decay_of_one_is_refused(coloured_noise, trainer, tmp_path):
    with pytest.raises(UserError, match=r"ema must be in \[0, 1\)"):
        run(FTD, coloured_noise(), trainer, tmp_path, ema=1.0)


# N, M, T+, batch, pixels' rate, its own rate, step size, alpha of the experts, EMA: the paper's table.
@pytest.mark.parametrize(
    ("dataset", "classes", "ipc", "expected"),
    [
        ("cifar10", 10, 1, (50, 2, 2, None, 100, 1e-7, 0.01, 0.3, 0.9999)),
        ("cifar10", 10, 10, (30, 2, 20, None, 100, 1e-5, 0.001, 0.3, 0.9995)),
        ("cifar10", 10, 50, (30, 2, 40, None, 1000, 1e-5, 0.01, 1.0, 0.999)),
        ("cifar100", 100, 1, (40, 3, 20, None, 1000, 1e-5, 0.01, 1.0, 0.9995)),
        ("cifar100", 100, 10, (20, 2, 40, None, 1000, 1e-5, 0.01, 1.0, 0.9995)),
        ("cifar100", 100, 50, (80, 2, 40, 1000, 1000, 1e-5, 0.01, 1.0, 0.999)),
        ("tiny_imagenet", 200, 1, (30, 2, 10, None, 1e4, 1e-4, 0.01, 1.0, 0.999)),
        ("tiny_imagenet", 200, 10, (20, 2, 40, 500, 1e4, 1e-4, 0.01, 1.0, 0.999)),
    ],
)
def test_the_papers_settings(dataset, classes, ipc, expected):
    base = yaml.safe_load((CONFIGS / "methods" / "ftd.yaml").read_text())["model"]["init_args"]
    paper = CONFIGS / "papers" / dataset / "ftd.yaml"
    given = yaml.safe_load(paper.read_text())["model"]["init_args"]
    settings = base["experts"]["init_args"] | given.pop("experts")["init_args"]
    method = at_budget(FTD(ipc, ExpertTrajectories(**settings), **given), classes)
    found = (
        *(method.steps, method.expert_epochs, method.max_start_epoch, method.batch_syn),
        *(method.lr, method.lr_step, method.step_size, method.experts.alpha, method.ema),
    )
    assert found == expected
    assert method.experts.rho == 0.01
    method._check_epochs()
