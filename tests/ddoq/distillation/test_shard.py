import pytest
import torch

from ddoq.distillation.shard import Shard
from ddoq.finite import NotFiniteError
from ddoq.labels.targets import Targets
from ddoq.storage.files import load_tensors, save_tensors


def test_all_that_a_shard_may_hold_comes_back(tmp_path):
    shard = Shard(
        torch.rand(2, 5),
        None,
        extras={"counts": torch.tensor([3, 4])},
        info={"lr": 0.1},
        targets=Targets(torch.ones(2, 2) / 2, "probabilities"),
        stages=torch.tensor([0, 1]),
        parts={"layer": torch.rand(2, 3, 3)},
    )
    shard.save(tmp_path / "s", {"seconds": 1.5})
    loaded, record = Shard.load(tmp_path / "s")
    assert torch.equal(loaded.images, shard.images)
    assert loaded.labels is None
    assert loaded.extras["counts"].tolist() == [3, 4]
    assert torch.equal(loaded.parts["layer"], shard.parts["layer"])
    assert loaded.targets.kind == "probabilities"
    assert torch.equal(loaded.targets.values, shard.targets.values)
    assert torch.equal(loaded.stages, shard.stages)
    assert (loaded.info, record) == ({"lr": 0.1}, {"seconds": 1.5})
    assert loaded.holds() == shard.holds() == {"images", "targets", "stages", "part.layer"}
    assert len(loaded) == 2


def test_a_plain_shard_is_stored_as_ever(tmp_path):
    images, labels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.tensor([0])
    Shard(images, labels, {"centroids": torch.ones(1)}, {"distortion": 0.5}).save(
        tmp_path / "s", {}
    )
    tensors, metadata = load_tensors(tmp_path / "s")
    assert set(tensors) == {"images", "labels", "extra.centroids"}
    assert metadata == {"info": {"distortion": 0.5}, "record": {}}


def test_a_shard_of_an_earlier_version_is_read(tmp_path):
    tensors = {"images": torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "labels": torch.tensor([0])}
    save_tensors(tmp_path / "s", tensors, {"info": {}, "record": {"seconds": 1.0}})
    shard, record = Shard.load(tmp_path / "s")
    assert (shard.targets, shard.stages, shard.parts) == (None, None, {})
    assert record == {"seconds": 1.0}


@pytest.mark.parametrize("name", ["images", "targets", "part"])
def test_what_is_not_finite_is_not_written(tmp_path, name):
    parts = {
        "images": torch.zeros(1, 3, 2, 2),
        "targets": torch.zeros(1, 2),
        "part": torch.zeros(1),
    }
    shard = Shard(
        parts["images"],
        torch.zeros(1, dtype=torch.long),
        {"extra": torch.tensor([torch.inf])},  # what a method keeps for itself may be anything
        targets=Targets(parts["targets"], "logits"),
        parts={"z": parts["part"]},
    )
    shard.save(tmp_path / "sound.safetensors", {})
    parts[name].flatten()[0] = torch.nan
    with pytest.raises(NotFiniteError, match="not finite"):
        shard.save(tmp_path / "broken.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["sound.safetensors"]
