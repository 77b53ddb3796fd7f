import pytest
import torch
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.dm import DM
from baselines.dm.distiller import mean_gap
from baselines.m3d import M3D
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.networks import draw_network, penultimate
from ddoq.objectives.discrepancy import mmd, polynomial

SETTINGS = {"ipc": 2, "arch": "convnet2-w4", "iterations": 6, "network_steps": 2, "batch_real": 8}


@pytest.fixture
def attached(coloured_noise):
    def make(**changes) -> M3D:
        method = M3D(**(SETTINGS | changes))
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(coloured_noise())
        return method

    return make


class Killed(M3D):
    """Ends in the middle of the networks of its second class."""

    def pair(self, real, synthetic, *keys):
        if keys == (3, 1):
            raise KilledError
        return super().pair(real, synthetic, *keys)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_steps": 0}, "network_steps must be at least 1"),
        ({"kernel": "gaussian_mixture"}, "Did you mean 'gaussian-mixture'"),
        ({"factor": 3}, "does not divide images of 8 pixels"),
        ({"ipc": 6}, "each class needs 24 real images"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


@pytest.mark.parametrize(
    ("name", "kernel"), [("polynomial", polynomial), ("gaussian-mixture", None)]
)
def test_gap_by_hand(name, kernel):
    network = draw_network("convnet1-w4", 2, 8, seed=0)
    real, synthetic = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 8, 8, requires_grad=True)
    features = [penultimate(network, images) for images in (real, synthetic)]
    expected = mmd(*features) if kernel is None else mmd(*features, kernel)
    torch.testing.assert_close(M3D(1, kernel=name).gap(network, real, synthetic), expected)


def test_with_the_linear_kernel_loss_and_gradient_are_those_of_dm():
    network = draw_network("convnet2-w4", 2, 8, seed=0)
    real, synthetic = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 8, 8, requires_grad=True)
    losses = [gap(network, real, synthetic) for gap in (M3D(1, kernel="linear").gap, mean_gap)]
    assert torch.equal(*losses)
    gradients = [torch.autograd.grad(loss, synthetic)[0] for loss in losses]
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_linear_kernel_and_no_grid_make_the_images_of_dm(attached, coloured_noise):
    given = {"ipc": 2, "arch": "convnet2-w4", "iterations": 6, "lr": 2.0, "init": "noise"}
    dm = DM(**given, batch_real=8)
    dm.attach(coloured_noise())
    ours = attached(**given, kernel="linear", factor=1, network_steps=1)
    ours.method = "dm"  # by whose name draws are keyed
    for item in dm.work_items(dm.data):
        assert torch.equal(ours.distill(item).images, dm.distill(item).images)


def test_distributions_come_nearer(attached):
    method = attached(iterations=30, lr=5.0, init="noise", augmentation="none", batch_real=20)
    start, end = [], []
    for label, item in enumerate(method.work_items(method.data)):
        real, pixels = method.start(label)
        images = method.distill(item).images
        for step in range(100, 103):  # networks that the images have not met
            network = method.network(step)
            for seen, losses in ((pixels.images, start), (images, end)):
                losses.append(method.gap(network, *method.pair(real, seen, step, label)).item())
    assert sum(end) < 0.8 * sum(start)  # a few cells always differ from a batch


def test_a_network_serves_for_several_steps(attached):
    method = attached(iterations=5)
    drawn, network = [], method.network
    method.network = lambda number: (drawn.append(number), network(number))[1]
    method.distill(method.work_items(method.data)[0])
    assert drawn == [0, 1, 2]


def test_a_killed_run_ends_with_the_same_bits(attached, coloured_noise, trainer, tmp_path):
    whole, _ = attached().run(trainer, tmp_path / "whole")
    killed = Killed(**SETTINGS)
    killed.checkpoint_seconds = 0
    killed.attach(coloured_noise())
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("*.checkpoint"))) == 1
    again, _ = attached().run(trainer, tmp_path / "killed")
    assert torch.equal(again.images, whole.images)
    assert again.metadata["statistics"] == whole.metadata["statistics"]


def test_two_ranks_give_the_bits_of_one(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert one.fingerprint == two.fingerprint


def test_plan_counts_the_cells(attached):
    method = attached()
    (stage,) = method.workload(Sizes.of(method.data), Parts())
    assert stage.passes == 6 * 3 * (8 + 4 * 2)
    assert stage.files == {"images": 3 * 2 * 4 * 3 * 8 * 8}
    assert stage.flops > 0


def test_a_diverging_class_is_named_and_leaves_nothing(attached, trainer, tmp_path):
    with pytest.raises(DivergedError, match=r"^m3d: class-0000 diverged: the loss was .* of 6\."):
        attached(lr=1e38, kernel="linear").run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("*class-*") if path.is_file()]
