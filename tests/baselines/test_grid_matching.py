import pytest
import torch

from baselines.grid_matching import GridMatching
from baselines.grid_selection import GridSelection
from ddoq.augmentation.siamese import FULL_STRATEGY
from ddoq.decoding.decoders import Grid, Pixels, split_grid
from ddoq.errors import UserError
from ddoq.images import to_uint8


class Toy(GridMatching):
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
    "factor": 2,
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
        ({"factor": 3}, "a grid of 3 x 3 does not divide images of 8 pixels"),
        ({"factor": -2}, "must be a whole number from 1 on"),
        ({"ipc": 4}, "ipc is 4 and factor 2, so that each class needs 16 real images"),
        ({"ipc": 13}, "ipc is 13, but class 'class 0' of held has only 12"),
        ({"batch_real": {1: 0, 10: 5}}, "batch_real must be at least 1, not 0"),
        ({"batch_real": {10: 5}}, "batch_real: the table has no entry for 2 images"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_noise_has_no_limit_by_the_class(attached):
    assert attached(ipc=13, init="noise").start(0)[1].images.shape == (13, 3, 8, 8)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_start_is_what_grid_selection_keeps(attached, make_data, factor):
    toy, kept = attached(factor=factor, seed=5), GridSelection(2, seed=5, factor=factor)
    kept.attach(make_data())
    for label, item in enumerate(kept.work_items(kept.data)):
        _, pixels = toy.start(label)
        seen = toy.form([]).transform.invert(pixels.images.detach())
        levels = to_uint8(seen).int() - kept.distill(item).images.int()
        assert levels.abs().max() <= 1  # a mean of four levels may lie on an edge


def test_networks_see_the_cells_that_students_will_see(attached, trainer, tmp_path):
    toy = attached(augmentation="none")
    real, pixels = toy.start(1)
    batch, cells = toy.pair(real, pixels.images, 0, 1)
    assert (len(batch), len(cells), toy.decoded) == (5, 8, 8)
    torch.testing.assert_close(cells, split_grid(pixels.images, 2))
    distilled, _ = toy.run(trainer, tmp_path)
    decoded = distilled.decode()
    torch.testing.assert_close(decoded.images[8:16], cells.detach())
    assert (distilled.ipc, len(decoded)) == (2, 24)


def test_a_grid_of_one_cell_is_the_image(attached):
    toy = attached(factor=1, augmentation="none")
    real, pixels = toy.start(0)
    assert toy.pair(real, pixels.images, 0, 0)[1] is pixels.images
    assert (toy.decoded, toy.form([]).decoder) == (2, Pixels())


def test_the_set_says_its_grid_space_and_recipe(attached):
    form = attached(augmentation="crop").form([])
    assert form.decoder == Grid(2)
    assert form.transform.std.flatten().tolist() == [0.25] * 3
    assert (form.recipe.name, form.recipe.overrides) == ("dsa", {"siamese": "crop"})


def test_batches_follow_the_budget(attached):
    for ipc, size in ((1, 7), (2, 3)):
        toy = attached(ipc=ipc, batch_real={1: 7, 2: 3})
        real, pixels = toy.start(0)
        assert len(toy.pair(real, pixels.images, 0, 0)[0]) == size


def test_smoke_runs_are_small():
    assert Toy.tiny(SETTINGS)["factor"] == 2
    assert Toy.tiny(SETTINGS | {"factor": 4})["factor"] == 1
    assert Toy.tiny(SETTINGS)["batch_real"] == 8
