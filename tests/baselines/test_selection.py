import pytest
import torch

from baselines.selection import FeatureSelection, keep
from ddoq.costs.workload import Parts, Sizes
from ddoq.errors import UserError
from ddoq.images import to_float


class Brightest(FeatureSelection):
    """Keeps the images of the largest features."""

    method = "brightest"

    def choose(self, features):
        self.seen = features
        return features.sum(dim=1).argsort(descending=True)[: self.ipc]


def test_keep_loads_in_the_order_given(make_data):
    data = make_data()
    indices = data.train.of_class(2)[[3, 0]]
    shard = keep(data, 2, indices, {"counts": torch.tensor([1, 2])}, {"points": 12})
    assert torch.equal(shard.images, data.train.load(indices.tolist()))
    assert shard.images.dtype == torch.uint8
    assert shard.labels.tolist() == [2, 2]
    assert set(shard.extras) == {"indices", "counts"}
    assert shard.info == {"indices": indices.tolist(), "points": 12}


def attached(data, teacher, **settings):
    distiller = Brightest(**{"ipc": 3, **settings})
    distiller.attach(data, teacher=teacher)
    return distiller


def test_features_are_the_teachers_of_normalised_images(make_data, colour_teacher):
    data = make_data()
    distiller = attached(data, colour_teacher(data))
    for label, item in enumerate(distiller.work_items(data)):
        distiller.distill(item)
        images = to_float(data.train.load(data.train.of_class(label).tolist()))
        expected = (images.mean((2, 3)) - 0.5) / 0.25
        torch.testing.assert_close(distiller.seen, expected, atol=1e-5, rtol=0)


def test_chosen_images_are_kept_in_their_order(make_data, colour_teacher):
    data = make_data()
    distiller = attached(data, colour_teacher(data))
    for label, item in enumerate(distiller.work_items(data)):
        shard = distiller.distill(item)
        brightness = data.train.load(data.train.of_class(label).tolist()).float().mean((1, 2, 3))
        kept = shard.images.float().mean((1, 2, 3))
        torch.testing.assert_close(kept, brightness.sort(descending=True).values[:3])
        assert torch.equal(shard.images, data.train.load(shard.info["indices"]))
        assert set(shard.labels.tolist()) == {label}
        assert shard.info["points"] == 12


def test_batches_change_nothing(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    kept = [
        [d.distill(item).info["indices"] for item in d.work_items(data)]
        for d in (attached(data, teacher, batch_size=size) for size in (5, 256))
    ]
    assert kept[0] == kept[1]


def test_seeds_share_shards(make_data, colour_teacher):
    data = make_data()
    first, second = (attached(data, colour_teacher(data), seed=seed) for seed in (0, 1))
    assert first.shard_settings() == second.shard_settings()
    assert first.settings() != second.settings()


def test_wrong_settings_are_refused(make_data, colour_teacher):
    data = make_data()
    with pytest.raises(UserError, match="brightest needs a teacher"):
        attached(data, None)
    with pytest.raises(UserError, match="only 12 training images"):
        attached(data, colour_teacher(data), ipc=13)
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        attached(data, colour_teacher(data), batch_size=0)


def test_every_training_image_is_planned_to_be_seen_once(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    distiller = attached(data, teacher)
    (stage,) = distiller.workload(Sizes.of(data), Parts(teacher=teacher.network))
    assert stage.passes == len(data.train) == 36
    assert stage.files == {"images": 3 * 3 * 3 * 8 * 8}
    assert distiller.workload(Sizes.of(data), Parts()) is None
