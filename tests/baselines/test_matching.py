from dataclasses import replace

import pytest
import torch

from baselines.matching import ClassMatching
from ddoq.augmentation.siamese import FULL_STRATEGY
from ddoq.costs.workload import Sizes
from ddoq.errors import UserError
from ddoq.objectives.features import mean_difference
from ddoq.optimisation.pixels import Pixels


class Toy(ClassMatching):
    """Keeps what an optimisation would start from."""

    method = "toy"

    def distill(self, item):
        (label,) = item.classes
        return self.shard(label, self.start(label)[1])


SETTINGS = {
    "ipc": 2,
    "seed": 0,
    "arch": "convnet1-w4",
    "iterations": 3,
    "lr": 0.1,
    "momentum": 0.5,
    "batch_real": 5,
    "init": "real",
    "augmentation": FULL_STRATEGY,
}


@pytest.fixture
def attached(make_data):
    def make(**changes) -> Toy:
        toy = Toy(**(SETTINGS | changes))
        toy.attach(make_data())
        return toy

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"batch_real": 0}, "batch_real must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": {1: 0.1, 2: float("inf")}}, r"lr\.2 must be a finite number"),
        ({"lr": {10: 0.1}}, "lr: the table has no entry for 2 images"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"augmentation": "color_flop"}, "Did you mean 'flip'"),
        ({"init": "zeros"}, "Unknown init 'zeros'"),
        ({"ipc": 13}, "ipc is 13, but class 'class 0' of held has only 12"),
        ({"arch": "convnet1-w4-bn"}, "convnet1-w4-bn has batch norm"),
        ({"arch": "resnet18"}, "resnet18 has batch norm"),
        ({"arch": "convnot3"}, "No network is called 'convnot3'"),
        ({"arch": "convnet4"}, "convnet4 halves the map"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_noise_has_no_limit_by_the_class(attached):
    toy = attached(ipc=13, init="noise")
    assert toy.start(0)[1].images.shape == (13, 3, 8, 8)


def test_images_start_as_normalised_real_ones_of_their_class(attached):
    toy = attached(ipc=4)
    for label in range(3):
        real = toy.data.train.load(toy.data.train.of_class(label).tolist()) / 255
        real = (real - 0.5) / 0.25
        _, pixels = toy.start(label)
        gaps = (pixels.images[:, None] - real).abs().amax((2, 3, 4))
        assert gaps.min(dim=1).values.max() < 1e-6
        assert len(set(gaps.argmin(dim=1).tolist())) == 4


def test_rates_follow_the_budget(attached):
    loss = torch.tensor(1.0)
    for ipc, rate in ((1, 0.25), (2, 0.5)):
        _, pixels = attached(ipc=ipc, lr={1: 0.25, 2: 0.5}).start(0)
        before = pixels.images.detach().clone()
        pixels.descend(pixels.images.sum() + loss)
        torch.testing.assert_close(before - pixels.images, torch.full_like(before, rate))


def test_networks_depend_on_seed_and_step_alone(attached):
    def weight(toy: Toy, step: int) -> torch.Tensor:
        return toy.network(step).classifier.weight

    first = weight(attached(), 4)
    torch.manual_seed(9)
    assert torch.equal(weight(attached(), 4), first)
    assert not torch.equal(weight(attached(), 5), first)
    assert not torch.equal(weight(attached(seed=1), 4), first)


def test_both_sides_of_a_pair_are_changed_alike(attached):
    # All images of the class are synthetic ones here: under one augmentation the two sides hold the same images.
    toy = attached(ipc=12, batch_real=12)
    real, pixels = toy.start(0)
    for step in range(12):
        batch, synthetic = toy.pair(real, pixels.images, step, 0)
        assert not torch.allclose(batch, synthetic)  # the orders differ
        order = [
            rows.detach().flatten(1).sum(dim=1).argsort().tolist() for rows in (batch, synthetic)
        ]
        torch.testing.assert_close(batch[order[0]], synthetic[order[1]].detach())


def test_pairs_depend_on_step_and_class(attached):
    toy = attached()
    real, pixels = toy.start(0)

    def drawn(*keys: int) -> torch.Tensor:
        return toy.pair(real, pixels.images, *keys)[0]

    assert torch.equal(drawn(1, 0), drawn(1, 0))
    assert not torch.equal(drawn(1, 0), drawn(2, 0))
    assert not torch.equal(drawn(1, 0), drawn(1, 1))


def test_without_augmentation_synthetic_images_stay(attached):
    toy = attached(augmentation="none")
    real, pixels = toy.start(0)
    assert toy.pair(real, pixels.images, 0, 0)[1] is pixels.images


@pytest.mark.parametrize(
    ("augmentation", "name", "overrides"),
    [
        (FULL_STRATEGY, "dsa", {}),
        ("crop_rotate", "dsa", {"siamese": "crop_rotate"}),
        ("none", "dc", {}),
    ],
)
def test_the_set_says_its_space_and_recipe(attached, augmentation, name, overrides):
    form = attached(augmentation=augmentation).form([])
    assert form.transform.mean.flatten().tolist() == [0.5] * 3
    assert form.transform.std.flatten().tolist() == [0.25] * 3
    assert (form.recipe.name, form.recipe.overrides) == (name, overrides)


def test_sets_hold_floats_that_decode_to_real_images(attached, trainer, tmp_path):
    toy = attached()
    distilled, _ = toy.run(trainer, tmp_path)
    assert distilled.images.dtype == torch.float32
    real = toy.data.train.images
    for pixels in distilled.decode().pixels():
        assert (real == pixels).flatten(1).all(dim=1).any()


def test_divergence_names_the_learning_rate(attached):
    pixels = Pixels(torch.full((2, 3, 8, 8), torch.inf), lr=1.0)
    with pytest.raises(UserError, match="lower the learning rate"):
        attached().shard(0, pixels)


def test_a_step_is_counted_with_both_sides(attached):
    toy = attached(batch_real=5, ipc=2)
    sizes = Sizes.of(toy.data)

    def gap(network, real, synthetic):
        return mean_difference(network(real), network(synthetic))

    stage = toy.matching_stage("match", gap, sizes, steps=10)
    assert (stage.passes, stage.batch) == (10 * 3 * 7, 7)
    assert stage.files == {"images": 3 * 2 * 4 * 3 * 8 * 8}
    assert stage.flops == 10 * toy.matching_stage("match", gap, sizes, steps=1).flops
    small = replace(sizes, largest_class=3)  # batches are never larger than a class
    assert toy.matching_stage("match", gap, small, steps=1).batch == 5
