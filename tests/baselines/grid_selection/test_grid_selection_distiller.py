import pytest
import torch

from baselines.grid_selection import GridSelection
from ddoq.augmentation.siamese import FULL_STRATEGY
from ddoq.decoding.decoders import Grid, Pixels
from ddoq.errors import UserError


def attached(data, **changes) -> GridSelection:
    distiller = GridSelection(**({"ipc": 2} | changes))
    distiller.attach(data)
    return distiller


def shards(data, **changes):
    distiller = attached(data, **changes)
    return [distiller.distill(item) for item in distiller.work_items(data)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 0}, "factor of a grid must be a whole number from 1 on, not 0"),
        ({"factor": 3}, "a grid of 3 x 3 does not divide images of 8 pixels of held"),
        (
            {"ipc": 4},
            "each class needs 16 real images, 4 for each .* 'class 0' of held has only 12",
        ),
        ({"ipc": 0}, "ipc must be at least 1"),
        ({"augmentation": "color_flop"}, "Did you mean 'flip'"),
    ],
)
def test_wrong_settings_are_refused(make_data, changes, message):
    with pytest.raises(UserError, match=message):
        attached(make_data(), **changes)


def test_every_cell_is_a_distinct_real_image_of_its_class_shrunk(make_data):
    data = make_data()
    for label, shard in enumerate(shards(data, ipc=3)):
        indices = shard.extras["indices"]
        assert indices.shape == (3, 4)
        assert len(set(indices.flatten().tolist())) == 12
        assert set(data.train.labels[indices.flatten()].tolist()) == {label}
        assert shard.images.dtype == torch.uint8
        for image, row in zip(shard.images, indices.tolist(), strict=True):
            for number, real in enumerate(data.train.load(row).double()):
                y, x = 4 * (number // 2), 4 * (number % 2)
                cell = image[:, y : y + 4, x : x + 4].double()
                means = real.reshape(3, 4, 2, 4, 2).mean(dim=(2, 4))
                assert (cell - means).abs().max() <= 0.5


def test_record_names_the_indices(make_data):
    for shard in shards(make_data()):
        assert shard.info == {"indices": shard.extras["indices"].tolist(), "points": 12}
        assert shard.labels.shape == (2,)


def test_a_grid_of_one_cell_keeps_real_images(make_data):
    data = make_data()
    for shard in shards(data, factor=1):
        assert torch.equal(shard.images, data.train.load(shard.extras["indices"][:, 0].tolist()))


def test_choice_depends_on_seed_and_class(make_data):
    data = make_data()
    first, again, other = (shards(data, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))
    places = [data.train.of_class(label).tolist() for label in range(3)]
    drawn = {
        tuple(places[label].index(i) for i in shard.extras["indices"].flatten().tolist())
        for label, shard in enumerate(first)
    }
    assert len(drawn) == 3


def test_smaller_budget_is_contained_in_a_larger_one(make_data):
    data = make_data()
    for small, large in zip(shards(data, ipc=1), shards(data, ipc=3), strict=True):
        assert torch.equal(large.images[:1], small.images)


def test_students_see_four_images_of_each_stored_one(make_data, trainer, tmp_path):
    distilled, _ = attached(make_data()).run(trainer, tmp_path)
    decoded = distilled.decode()
    assert (distilled.ipc, len(distilled.images), len(decoded)) == (2, 6, 24)
    assert decoded.labels.tolist() == [label for label in range(3) for _ in range(8)]
    cell = distilled.images[0, :, :4, 4:].float() / 255
    grown = torch.nn.functional.interpolate(cell[None], size=8, mode="bilinear")
    torch.testing.assert_close(decoded.images[1:2], grown)


@pytest.mark.parametrize(
    ("changes", "decoder", "name", "overrides"),
    [
        ({}, Grid(2), "dsa", {}),
        ({"factor": 4, "augmentation": "crop"}, Grid(4), "dsa", {"siamese": "crop"}),
        ({"factor": 1, "augmentation": "none"}, Pixels(), "dc", {}),
    ],
)
def test_the_set_says_its_grid_and_recipe(changes, decoder, name, overrides):
    form = GridSelection(1, **changes).form([])
    assert (form.decoder, form.transform) == (decoder, None)
    assert (form.recipe.name, form.recipe.overrides) == (name, overrides)


def test_the_augmentation_of_students_makes_no_other_shards():
    one, other = (GridSelection(1, augmentation=kind) for kind in (FULL_STRATEGY, "crop"))
    assert one.shard_settings() == other.shard_settings()
    assert one.settings() != other.settings()


def test_smoke_runs_take_grids_of_few_images():
    assert GridSelection.tiny({"ipc": 10, "factor": 4}) == {"ipc": 2, "factor": 1}
    assert GridSelection.tiny({"ipc": 1, "factor": 2}) == {"ipc": 1, "factor": 2}
