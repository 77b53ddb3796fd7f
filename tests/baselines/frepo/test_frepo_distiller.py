from pathlib import Path

import pytest
import torch
import yaml
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.frepo import FRePo
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.distillation.tables import at_budget
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError

SETTINGS = {
    "ipc": 2,
    "arch": "convnet2-w4-doubling-bn",
    "iterations": 6,
    "lr": 0.01,
    "batch_real": 16,
    "pool_size": 2,
    "pool_age": 1,
}


class Stopping(FRePo):
    """Ends in the middle, when it is told to."""

    stop_at = -1

    def real_batch(self, step, real):
        if step == self.stop_at:
            raise KilledError
        return super().real_batch(step, real)


@pytest.fixture
def attached(coloured_noise):
    def make(data=None, **changes) -> Stopping:
        method = Stopping(**SETTINGS | changes)
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(coloured_noise(**(data or {})))
        return method

    return make


def distil(method):
    (item,) = method.work_items(method.data)
    with torch.enable_grad():
        return method.distill(item)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ipc": 0}, "ipc must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"batch_real": 0}, "batch_real must be at least 1"),
        ({"pool_size": 0}, "pool_size must be at least 1"),
        ({"pool_age": -1}, "pool_age must be at least 0"),
        ({"batch_net": 0}, "batch_net must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr_net": -0.1}, "lr_net must be above 0"),
        ({"ridge": -1e-6}, "ridge must be at least 0"),
        ({"margin": -1.0}, "margin must be at least 0"),
        ({"optimizer": "lion"}, "Unknown optimizer 'lion'"),
        ({"init": "zeros"}, "Unknown init 'zeros'"),
        ({"augmentation": "flop"}, "Did you mean 'flip'"),
        ({"ipc": 21}, "ipc is 21, but class"),
        ({"data": {"classes": 1}}, "lies between two classes, but .* has 1: set margin to 0"),
        (
            {"ridge": 0.0, "ipc": 6},
            r"regression on 36 images \(mirrored .* in the 32 features .*set ridge above 0",
        ),
        ({"arch": "convnet2-w4-doubled"}, r"convnet<depth>\[-w<width>\]\[-doubling\]"),
        ({"zca": True, "data": {"image_size": 96}}, "zca: false"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_one_class_can_do_without_a_margin(attached):
    assert attached(data={"classes": 1}, margin=0.0).margin == 0


def test_images_and_labels_are_learned_and_real_images_are_predicted_better(attached):
    method = attached(iterations=60, lr=0.02, pool_age=4)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    start = method.start(labels)
    shard = distil(method)
    losses = shard.info["losses"]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert torch.equal(shard.labels, labels)
    assert shard.targets.kind == "vectors"
    assert not torch.equal(shard.images, start.tensors["images"].detach())
    assert not torch.allclose(shard.targets.values, start.tensors["targets"].detach())
    assert shard.info["own_class"] == 1


def test_a_network_learns_after_its_use_and_few_images_at_once(attached):
    method = attached(batch_net=4)
    learned, pool = method.start(torch.tensor([0, 0, 1, 1, 2, 2])), method.pool()
    assert [member.age for member in pool.members] == [0, 0]
    seen = []
    pool.use = lambda place, images, targets: seen.append((place, images, targets))
    real = torch.randn(5, 3, 8, 8)
    images = learned.tensors["images"].detach().clone()
    with torch.enable_grad():
        method.step(0, learned, pool, real, torch.zeros(5, 3))
        method.step(1, learned, pool, real, torch.zeros(5, 3))
    (_, first, targets), (_, second, _) = seen
    assert first.shape == (4, 3, 8, 8)
    assert targets.shape == (4, 3)
    assert not first.requires_grad
    assert not torch.equal(first, second)
    # After the step of the images.
    assert not (first[:, None] == images).all(dim=(2, 3, 4)).any()


def test_networks_make_way(attached):
    method = attached(pool_age=0, iterations=9, pool_size=1)
    drawn = []
    pool = method.pool()
    new = pool._new
    pool._new = lambda number, age: drawn.append(number) or new(number, age)
    method.pool = lambda: pool
    distil(method)
    assert drawn == [1, 2, 3, 4]


def test_a_killed_run_ends_with_the_same_bits(attached, trainer, tmp_path):
    whole, _ = attached().run(trainer, tmp_path / "whole")
    killed = attached()
    killed.stop_at = 4
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("all.checkpoint"))) == 1
    resumed, _ = attached().run(trainer, tmp_path / "killed")
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.targets.values, whole.targets.values)
    assert resumed.metadata["statistics"] == whole.metadata["statistics"]
    assert len(whole.metadata["statistics"]["losses"]) == 6
    other, _ = attached(seed=1).run(trainer, tmp_path / "whole")
    assert not torch.equal(other.images, whole.images)


def test_two_ranks_give_the_bits_of_one(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert torch.equal(one.images, two.images)
    assert one.fingerprint == two.fingerprint


def test_space_labels_recipe_and_network_travel_with_the_set(attached, trainer, tmp_path):
    method = attached(zca=True, augmentation="color_crop")
    _, folder = method.run(trainer, tmp_path)
    loaded = DistilledSet.load(folder)
    assert (loaded.form.recipe.name, loaded.form.recipe.overrides) == (
        "frepo",
        {"siamese": "color_crop"},
    )
    assert loaded.targets.kind == "vectors"
    assert loaded.metadata["students"] == "convnet2-w4-doubling-nonorm"
    assert loaded.metadata["labels"] == pytest.approx({"subtracted": 1 / 3, "divided_by": 0.3**0.5})
    raw = method.data.test.load(range(len(method.data.test))) / 255
    space = loaded.form.transform
    assert torch.equal(space.apply(raw), method.space.apply(raw))
    # Normalised first, then whitened: the covariance of what whitening sees is that of normalised images.
    std = torch.tensor(method.data.std).reshape(3, 1, 1)
    torch.testing.assert_close(space.std[:, :1, :1], std)
    train = method.data.train.load(range(len(method.data.train))) / 255
    covariance = (train / std).flatten(1).double().T.cov()
    values, vectors = torch.linalg.eigh(covariance)
    expected = vectors @ torch.diag((values.clamp(min=0) + 0.1) ** -0.5) @ vectors.T
    torch.testing.assert_close(space.zca.double(), expected, atol=1e-4, rtol=1e-3)


def test_another_dataset_is_another_space(attached, coloured_noise):
    method = attached(zca=True)
    first = method.space
    assert method.space is first
    method.attach(coloured_noise(per_class=10))
    assert not torch.equal(method.space.zca, first.zca)


def test_divergence_leaves_nothing(attached, trainer, tmp_path):
    with pytest.raises(NotFiniteError, match=r"frepo.* all.* (diverged|not finite)"):
        attached(lr=1e30).run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("all*") if path.is_file()]


def test_plan_counts_regression_and_pool(attached):
    method = attached()
    sizes = Sizes.of(method.data)
    regress, train = method.workload(sizes, Parts())
    assert regress.passes == 6 * (16 + 12)
    assert train.passes == 6 * 6
    plain, _ = attached(flip=False).workload(sizes, Parts())
    assert plain.passes == 6 * (16 + 6)
    larger, _ = attached(ipc=4).workload(sizes, Parts())
    assert larger.memory > regress.memory
    regress.probe(16 + 12)


PAPERS = Path(__file__).parents[3] / "configs" / "papers"


# Mirrored copies, whitening, and the network of the students: the paper's and its repository's.
@pytest.mark.parametrize(
    ("dataset", "classes", "ipc", "expected"),
    [
        *(("cifar10", 10, ipc, (True, True, "convnet3-doubling")) for ipc in (1, 10, 50)),
        ("cifar100", 100, 1, (True, True, "convnet3-doubling")),
        *(("cifar100", 100, ipc, (False, True, "convnet3-doubling")) for ipc in (10, 50)),
        ("tiny_imagenet", 200, 10, (True, True, "convnet4-w64-doubling")),
        ("fashion_mnist", 10, 1, (False, False, "convnet3-doubling")),
        ("digits", 10, 1, (False, False, "convnet3-doubling")),
    ],
)
def test_the_papers_settings(dataset, classes, ipc, expected):
    given = yaml.safe_load((PAPERS / dataset / "frepo.yaml").read_text())
    method = at_budget(FRePo(ipc, **given["model"]["init_args"]), classes)
    flip, zca, network = expected
    assert (method.flip, method.zca, method.arch) == (flip, zca, f"{network}-bn")
    assert ("flip" in method.augmentation.split("_")) is (
        dataset not in ("fashion_mnist", "digits")
    )
    assert (method.iterations, method.optimizer, method.lr) == (500_000, "lamb", 3e-4)
    if "students" in given:
        assert given["students"] == [{"arch": f"{network}-nonorm"}]
