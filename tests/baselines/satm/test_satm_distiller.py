import pytest
import torch
from killing import KilledError

from baselines.mtt import MTT
from baselines.satm import SATM
from ddoq.costs.workload import Parts, Sizes
from ddoq.errors import UserError
from ddoq.objectives.functional import weights_of
from ddoq.objectives.trajectories import match_trajectory
from ddoq.trajectories import ExpertTrajectories

EXPERTS = {"arch": "convnet1-w4", "count": 2, "epochs": 3, "batch_size": 16, "lr": 0.05}
SETTINGS = {"ipc": 2, "iterations": 5, "steps": 3, "max_start_epoch": 2, "lr": 5.0}


def make(kind, data, **changes):
    method = kind(experts=ExpertTrajectories(**EXPERTS), **SETTINGS | changes)
    method.checkpoint_seconds = 0
    method.attach(data)
    return method


def run(kind, data, trainer, root, **changes):
    return make(kind, data, **changes).run(trainer, root)[0]


def test_without_a_ball_it_is_mtt_bit_for_bit(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    mtt = run(MTT, data, trainer, tmp_path)
    for changes in ({}, {"truncation": 1.0, "reuse": 0.0}):  # there is nothing to economise on
        plain = run(SATM, data, trainer, tmp_path, rho=0.0, **changes)
        assert torch.equal(mtt.images, plain.images)
        assert mtt.metadata["statistics"] == plain.metadata["statistics"]
    sharp = run(SATM, data, trainer, tmp_path, rho=0.5)
    assert not torch.equal(mtt.images, sharp.images)


def test_without_economies_a_step_is_that_of_two_whole_trainings(coloured_noise, tmp_path):
    method = make(SATM, coloured_noise(), iterations=1, rho=0.5, truncation=1.0, reuse=0.0)
    method.prepare(tmp_path, {"accelerator": "cpu", "devices": 1})
    images = method.start().pixels.images.detach()
    network = method.experts.network(3, 8)
    segment = method.segment(0, weights_of(network))
    view = method.view(0, torch.tensor([0, 0, 1, 1, 2, 2]))
    rate = torch.tensor(method.step_size)
    clean = match_trajectory(network, segment, images, rate, view, range(3))
    moved = images + 0.5 * clean.images / clean.images.norm()
    worst = match_trajectory(network, segment, moved, rate, view, range(3))
    with torch.enable_grad():
        shard = method.distill(method.work_items(method.data)[0])
    torch.testing.assert_close(shard.images, images - 5.0 * worst.images)
    assert shard.info["losses"] == [pytest.approx(clean.loss.item())]


@pytest.mark.parametrize(
    ("steps", "truncation", "reuse", "expected"),
    [
        (30, 1 / 3, 2 / 3, (10, 20)),
        (20, 1 / 3, 2 / 3, (7, 13)),
        (1, 1 / 3, 2 / 3, (1, 0)),
        (10, 0.01, 0.99, (1, 9)),
        (10, 1.0, 0.0, (10, 0)),
    ],
)
def test_shares_become_steps(steps, truncation, reuse, expected):
    experts = ExpertTrajectories(**EXPERTS)
    method = SATM(1, experts, steps=steps, truncation=truncation, reuse=reuse)
    assert (method.through, method.taken_over) == expected


def test_a_killed_run_ends_with_the_same_bits(coloured_noise, trainer, tmp_path):
    class Killed(SATM):
        def segment(self, step, like):
            if step == 3:
                raise KilledError
            return super().segment(step, like)

    whole = run(SATM, coloured_noise(), trainer, tmp_path / "whole")
    with pytest.raises(KilledError):
        run(Killed, coloured_noise(), trainer, tmp_path / "killed")
    resumed = run(SATM, coloured_noise(), trainer, tmp_path / "killed")
    assert torch.equal(resumed.images, whole.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rho": -0.1}, "rho must be at least 0"),
        ({"truncation": 0.0}, r"truncation must be in \(0, 1\]"),
        ({"reuse": 1.0}, r"reuse must be in \[0, 1\)"),
    ],
)
def test_wrong_settings_are_refused(coloured_noise, changes, message):
    with pytest.raises(UserError, match=message):
        make(SATM, coloured_noise(), **changes)


def test_plan_counts_both_students(coloured_noise):
    data = coloured_noise()
    sizes = Sizes.of(data)
    (one,) = make(MTT, data).workload(sizes, Parts())
    (two,) = make(SATM, data, reuse=0.0).workload(sizes, Parts())
    (fewer,) = make(SATM, data, reuse=2 / 3).workload(sizes, Parts())
    assert two.flops == pytest.approx(2 * one.flops)
    assert one.flops < fewer.flops < two.flops
