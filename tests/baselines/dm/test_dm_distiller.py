import pytest
import torch
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.dm import DM
from baselines.dm.distiller import mean_gap
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.finite import DivergedError
from ddoq.networks import draw_network, penultimate

SETTINGS = {"ipc": 2, "arch": "convnet2-w4", "iterations": 6, "batch_real": 8}


@pytest.fixture
def attached(coloured_noise):
    def make(**changes) -> DM:
        method = DM(**(SETTINGS | changes))
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(coloured_noise())
        return method

    return make


class Killed(DM):
    """Ends in the middle of its second class."""

    def network(self, step):
        self.networks = getattr(self, "networks", 0) + 1
        if self.networks == 6 + 4:
            raise KilledError
        return super().network(step)


def test_gap_by_hand():
    network = draw_network("convnet1-w4", 2, 8, seed=0)
    real, synthetic = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 8, 8, requires_grad=True)
    gap = mean_gap(network, real, synthetic)
    means = [penultimate(network, images).mean(dim=0) for images in (real, synthetic)]
    torch.testing.assert_close(gap, (means[0] - means[1]).pow(2).sum())
    assert mean_gap(network, real, real).item() == 0


def test_a_single_step_by_hand(attached):
    method = attached(iterations=1, lr=0.5)
    (shard, *_) = [method.distill(item) for item in method.work_items(method.data)]
    real, pixels = method.start(0)
    batch, synthetic = method.pair(real, pixels.images, 0, 0)
    mean_gap(method.network(0), batch, synthetic).backward()
    expected = pixels.images.detach() - 0.5 * pixels.images.grad
    torch.testing.assert_close(shard.images, expected)
    assert shard.info["loss"] > 0


def test_mean_features_come_nearer(attached):
    method = attached(iterations=60, lr=10.0, init="noise", augmentation="none", batch_real=20)
    start, end = [], []
    for label, item in enumerate(method.work_items(method.data)):
        real, pixels = method.start(label)
        batch = real.draw(20, torch.Generator())
        images = method.distill(item).images
        for step in range(100, 103):  # networks that the images have not met
            network = method.network(step)
            start.append(mean_gap(network, batch, pixels.images))
            end.append(mean_gap(network, batch, images))
    assert sum(end) < 0.4 * sum(start)


def test_classes_do_not_depend_on_one_another(attached):
    method = attached()
    items = method.work_items(method.data)
    forwards = [method.distill(item).images for item in items]
    backwards = [method.distill(item).images for item in reversed(items)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert torch.equal(one, other)


def test_a_killed_run_ends_with_the_same_bits(attached, coloured_noise, trainer, tmp_path):
    whole, _ = attached().run(trainer, tmp_path / "whole")
    killed = Killed(**SETTINGS)
    killed.checkpoint_seconds = 0
    killed.attach(coloured_noise())
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("*.checkpoint"))) == 1
    resumed = attached()
    steps = []
    network = resumed.network
    resumed.network = lambda step: (steps.append(step), network(step))[1]
    again, _ = resumed.run(trainer, tmp_path / "killed")
    assert steps == [3, 4, 5, *range(6)]  # the rest of the second class, and the third
    assert torch.equal(again.images, whole.images)
    assert again.metadata["statistics"] == whole.metadata["statistics"]


def test_two_ranks_give_the_bits_of_one(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert torch.equal(one.images, two.images)
    assert one.fingerprint == two.fingerprint


def test_the_paper_steps_tenfold_from_a_hundred_images():
    assert DM(ipc=99).lr[1] == 1.0
    assert DM(ipc=100).lr[100] == 10.0


def test_plan_counts_a_step_of_every_class(attached):
    method = attached()
    (stage,) = method.workload(Sizes.of(method.data), Parts())
    assert stage.passes == 6 * 3 * (8 + 2)
    assert stage.flops > 0


def test_a_diverging_class_is_named_and_leaves_nothing(attached, trainer, tmp_path):
    message = r"^dm: class-0000 diverged: the loss was .* of 6\. Lower the learning"
    with pytest.raises(DivergedError, match=message):
        attached(lr=1e30).run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("*class-*") if path.is_file()]
