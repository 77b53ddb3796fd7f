import pytest
import torch
from two_ranks import distill_on_two_ranks

from baselines.patch_scores import PatchScore
from baselines.patches import PatchMethod, default_factor, default_source
from ddoq.data import TensorSplit
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.images import to_float, to_uint8
from ddoq.selection.patches import cut_patches


class Darkness(PatchScore):
    """Scores a crop by its mean."""

    def score(self, proposals):
        images, boxes = proposals.images, proposals.boxes
        cut = [cut_patches(images, boxes[:, m], proposals.side) for m in range(boxes.shape[1])]
        return torch.stack(cut, 1).mean((2, 3, 4))


class Darkest(PatchMethod):
    """Keeps the darkest crops."""

    method = "darkest"
    stop_at = -1

    def __init__(
        self,
        ipc: int,
        seed: int = 0,
        pool: int = 300,
        crops: int = 3,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        factor: int | None = None,
        source_size: int | None = None,
        batch_size: int = 8,
    ) -> None:
        super().__init__(ipc, seed, pool, crops, crop_scale, factor, source_size, batch_size)

    def patch_score(self, label):
        if label == self.stop_at:
            raise RuntimeError("killed")
        return Darkness()

    def choose(self, patches, scores, count, label):
        return scores.argsort(stable=True)[:count]


class Broken(Darkness):
    def score(self, proposals):
        return super().score(proposals) * torch.nan


def attached(data, **changes):
    method = Darkest(**({"ipc": 2} | changes))
    method.attach(data)
    return method


def shards(method):
    return [method.distill(item) for item in method.work_items(method.data)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": 0}, "pool must be at least 1, not 0"),
        ({"crops": 0}, "crops must be at least 1, not 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale must be \[low, high\] .* not \[0.0, 1.0\]"),
        ({"crop_scale": (0.5, 1.5)}, "no crop is larger than its image"),
        ({"crop_scale": (0.5, 0.4)}, r"crop_scale must be \[low, high\]"),
        ({"factor": 0}, "factor of a grid must be a whole number from 1 on, not 0"),
        ({"factor": 3}, "a grid of 3 x 3 does not divide images of 8 pixels of held"),
        ({"source_size": 7}, "source_size is 7, but held has images of 8 pixels: patches would be"),
        (
            {"factor": 2, "ipc": 4},
            "needs 16 patches, one an image, but class 'class 0' of held has only 12 training",
        ),
        (
            {"pool": 7, "factor": 2},
            "needs 8 patches, one an image, but pool is 7. Raise model.init_args.pool",
        ),
        ({"ipc": 0}, "ipc must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(make_data, changes, message):
    with pytest.raises(UserError, match=message):
        attached(make_data(), **changes)


def test_the_last_budget_that_a_pool_fills(make_data):
    attached(make_data(), ipc=3, factor=2)
    attached(make_data(), ipc=2, factor=2, pool=8)


@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_stored_is_the_best_crop_of_distinct_images_of_the_pool(make_data, factor):
    data = make_data()
    method = attached(data, ipc=2, factor=factor, pool=9)
    for label, shard in enumerate(shards(method)):
        indices, boxes, scores = (shard.extras[name] for name in ("indices", "boxes", "scores"))
        assert indices.shape == scores.shape == (2, factor**2)
        assert len(set(indices.flatten().tolist())) == 2 * factor**2
        assert set(data.train.labels[indices.flatten()].tolist()) == {label}
        assert shard.info["indices"] == indices.tolist()
        assert shard.info["points"] == 12
        proposals = method.propose(label)
        assert len(proposals.positions) == 9
        everything = Darkness().score(proposals)
        best = everything.min(1).values.sort().values
        # The first cells of all images hold the very best, then the second ones.
        torch.testing.assert_close(scores.T.flatten(), best[: 2 * factor**2])
        assert shard.info["score"] == pytest.approx(float(best[: 2 * factor**2].mean()))
        assert shard.info["score_pool"] == pytest.approx(float(best.mean()))
        side = 8 // factor
        for image, row, places in zip(shard.images, indices, boxes, strict=True):
            for cell in range(factor**2):
                y, x = side * (cell // factor), side * (cell % factor)
                real = data.train.load([int(row[cell])])
                patch = to_uint8(cut_patches(real, places[cell][None], side)[0])
                assert torch.equal(image[:, y : y + side, x : x + side], patch)


def test_one_crop_of_full_size_is_a_selection_of_whole_images(make_data):
    data = make_data()
    for label, shard in enumerate(shards(attached(data, crops=1, crop_scale=(1.0, 1.0), ipc=3))):
        members = data.train.of_class(label)
        darkness = to_float(data.train.load(members.tolist())).mean((1, 2, 3))
        darkest = members[darkness.argsort()[:3]]
        assert shard.extras["indices"].flatten().tolist() == darkest.tolist()
        assert torch.equal(shard.images, data.train.load(darkest.tolist()))


def test_a_smaller_pool_is_part_of_a_larger_one_with_the_same_crops(make_data):
    small, large = (attached(make_data(), pool=pool).propose(1) for pool in (5, 12))
    assert torch.equal(large.positions[:5], small.positions)
    assert torch.equal(large.boxes[:5], small.boxes)
    other = attached(make_data(), pool=5, seed=1).propose(1)
    assert small.positions.tolist() != other.positions.tolist()


@pytest.mark.parametrize(("side", "given", "source"), [(8, 32, 32), (128, None, 256)])
def test_crops_are_cut_out_of_larger_sources(make_data, side, given, source):
    small, large = (make_data(1, 4, image_size=size, seed=3) for size in (side, source))

    class Shrunk(TensorSplit):
        def at_size(self, size, *, stretch=False):
            assert size == source
            return large.train

    small.train = Shrunk(small.train.images, small.train.labels)
    method = attached(small, source_size=given, ipc=1)
    proposals = method.propose(0)
    assert proposals.size == (source, source)
    assert int(proposals.boxes[..., 2].max()) > side
    assert shards(method)[0].images.shape == (1, 3, side, side)


def test_scores_that_are_no_numbers_are_refused(make_data, monkeypatch):
    method = attached(make_data())
    monkeypatch.setattr(method, "patch_score", lambda label: Broken())
    with pytest.raises(NotFiniteError, match="scores of class 'class 0' are not finite"):
        shards(method)


def test_a_kill_and_two_ranks_change_no_bit(coloured_noise, trainer, tmp_path):
    def make():
        return attached(coloured_noise(), factor=2, ipc=1)

    whole, _ = make().run(trainer, tmp_path / "whole")
    killed = make()
    killed.stop_at = 1
    with pytest.raises(RuntimeError, match="killed"):
        killed.run(trainer, tmp_path / "killed")
    resumed = make()
    resumed.patch_score = lambda label: Darkness() if label else pytest.fail("made again")
    assert resumed.run(trainer, tmp_path / "killed")[0].fingerprint == whole.fingerprint
    distill_on_two_ranks(make, tmp_path / "two")
    (folder,) = (tmp_path / "two" / "distilled").glob("darkest-*")
    assert DistilledSet.load(folder).fingerprint == whole.fingerprint


def test_the_set_says_that_it_is_made_of_collages(make_data, trainer, tmp_path):
    distilled, _ = attached(make_data(), factor=2).run(trainer, tmp_path)
    assert distilled.metadata["collage"] == 2
    assert set(distilled.metadata["statistics"]) == {"score", "score_pool"}
    plain, _ = attached(make_data()).run(trainer, tmp_path)
    assert "collage" not in plain.metadata


@pytest.mark.parametrize(
    ("size", "factor", "overrides"),
    [
        (8, None, {}),
        (8, 2, {"crop_scale": [0.5, 1.0]}),
        (128, None, {}),
        (128, 1, {"crop_scale": [1.0, 1.0]}),
    ],
)
def test_students_train_as_those_of_rded(make_data, size, factor, overrides):
    method = attached(make_data(num_classes=1, image_size=size, per_class=4), factor=factor, ipc=1)
    recipe = method.form([]).recipe
    assert (recipe.name, recipe.overrides) == ("rded", overrides)


def test_factors_are_those_of_rdeds_scripts_and_photographs_are_cropped_at_twice_the_size():
    assert [default_factor(size) for size in (32, 64, 128, 224)] == [1, 1, 2, 2]
    assert [default_source(size) for size in (32, 64, 128, 224)] == [32, 64, 256, 448]


def test_smoke_runs_take_few_crops_of_few_images():
    few = {"ipc": 2, "pool": 8, "crops": 2, "source_size": None, "batch_size": 8}
    assert Darkest.tiny({"ipc": 10, "pool": 300, "crops": 5}) == few
    assert Darkest.tiny({"ipc": 10, "factor": 4, "pool": 3}) == {**few, "pool": 3, "factor": 1}
