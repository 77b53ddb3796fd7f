import pytest
import torch

from baselines.random_selection import RandomSelection
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError


def attached(data, ipc=4, seed=0):
    distiller = RandomSelection(ipc, seed=seed)
    distiller.attach(data)
    return distiller


def shards(data, ipc=4, seed=0):
    distiller = attached(data, ipc, seed)
    return [distiller.distill(item) for item in distiller.work_items(data)]


def test_needs_nothing():
    distiller = RandomSelection(1)
    assert not distiller.needs_prior
    assert not distiller.needs_teacher


def test_images_are_distinct_real_images_of_the_class(make_data):
    data = make_data()
    for label, shard in enumerate(shards(data)):
        indices = shard.extras["indices"]
        assert len(set(indices.tolist())) == 4
        assert set(data.train.labels[indices].tolist()) == {label}
        assert set(shard.labels.tolist()) == {label}
        assert torch.equal(shard.images, data.train.load(indices.tolist()))


def test_record_names_the_indices(make_data):
    for shard in shards(make_data()):
        assert shard.info["indices"] == shard.extras["indices"].tolist()
        assert shard.info["points"] == 12


def test_seeds_repeat_and_differ(make_data):
    data = make_data()
    first, again, other = shards(data, seed=1), shards(data, seed=1), shards(data, seed=2)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_classes_draw_independently(make_data):
    data = make_data(num_classes=4, per_class=40)
    within = []
    for shard in shards(data, ipc=5):
        places = data.train.of_class(int(shard.labels[0])).tolist()
        within.append(tuple(places.index(i) for i in shard.info["indices"]))
    assert len(set(within)) == 4


def test_order_of_items_does_not_matter(make_data):
    data = make_data()
    distiller = attached(data)
    items = distiller.work_items(data)
    backwards = [distiller.distill(item) for item in reversed(items)][::-1]
    for a, b in zip(shards(data), backwards, strict=True):
        assert torch.equal(a.images, b.images)


def test_smaller_budget_is_contained_in_a_larger_one(make_data):
    data = make_data()
    for small, large in zip(shards(data, ipc=3), shards(data, ipc=9), strict=True):
        assert large.info["indices"][:3] == small.info["indices"]


def test_every_image_is_as_likely(make_data):
    data = make_data(num_classes=1, per_class=10)
    drawn = torch.cat([shards(data, ipc=3, seed=seed)[0].extras["indices"] for seed in range(400)])
    counts = torch.bincount(drawn, minlength=10)
    assert (counts - 120).abs().max() < 46  # five standard deviations


def test_whole_class_can_be_kept(make_data):
    data = make_data()
    for label, shard in enumerate(shards(data, ipc=12)):
        assert sorted(shard.info["indices"]) == data.train.of_class(label).tolist()


def test_budget_above_class_size(make_data):
    with pytest.raises(UserError, match="ipc is 13, but class 'class 0' of held has only 12"):
        attached(make_data(), ipc=13)


def test_weights_are_one(make_data):
    data = make_data()
    shard = shards(data)[0]
    assert torch.equal(RandomSelection(4).weigh(shard), torch.ones(4))


def test_shard_survives_the_disk(make_data, tmp_path):
    shard = shards(make_data())[0]
    shard.save(tmp_path / "a.safetensors", {})
    loaded, _ = Shard.load(tmp_path / "a.safetensors")
    assert loaded.info == shard.info
    assert torch.equal(loaded.extras["indices"], shard.extras["indices"])


def test_runs_under_a_trainer(make_data, trainer, tmp_path):
    data = make_data()
    distilled, _ = attached(data).run(trainer, tmp_path)
    assert distilled.ipc == 4
    assert torch.equal(distilled.images, torch.cat([s.images for s in shards(data)]))
