import torch

from ddoq.distillation.merging import merge_shards
from ddoq.distillation.shard import Shard


def shard(*values, labels):
    pixels = torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return Shard(pixels.expand(-1, 3, 8, 8).contiguous(), torch.tensor(labels))


def test_images_come_by_label_and_then_by_shard():
    shards = [shard(10, 11, labels=[1, 0]), shard(20, 21, 22, labels=[0, 1, 0])]
    weights = [torch.tensor([0.5, 1.5]), torch.tensor([1.0, 1.5, 0.5])]
    merged = merge_shards(shards, weights, ["a", "b"], {"method": "test"})
    assert merged.labels.tolist() == [0, 0, 0, 1, 1]
    assert merged.images[:, 0, 0, 0].tolist() == [11, 20, 22, 10, 21]
    assert merged.weights.tolist() == [1.5, 1.0, 0.5, 0.5, 1.5]
    assert merged.metadata == {"method": "test"}
