from dataclasses import replace

import pytest
import torch

from ddoq.decoding.decoders import Grid
from ddoq.decoding.form import SetForm
from ddoq.distillation.merging import merge_shards
from ddoq.distillation.shard import Shard
from ddoq.errors import UserError
from ddoq.labels.targets import Targets


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


def rich(value: float, labels: list[int] | None) -> Shard:
    n = 2
    return Shard(
        torch.full((n, 3, 8, 8), value),
        None if labels is None else torch.tensor(labels),
        targets=Targets(torch.full((n, 4), value), "vectors"),
        stages=torch.arange(n),
    )


def test_whatever_belongs_to_an_image_moves_with_it():
    form = SetForm(Grid(2))
    merged = merge_shards(
        [rich(0.25, [1, 0]), rich(0.5, [0, 1])], [torch.ones(2)] * 2, ["a", "b"], {}, form
    )
    assert merged.images[:, 0, 0, 0].tolist() == [0.25, 0.5, 0.25, 0.5]
    assert merged.targets.values[:, 0].tolist() == [0.25, 0.5, 0.25, 0.5]
    assert merged.stages.tolist() == [1, 0, 0, 1]
    assert merged.form is form


def test_without_labels_the_order_of_shards_stays():
    merged = merge_shards([rich(0.5, None), rich(0.25, None)], [torch.ones(2)] * 2, ["a"], {})
    assert merged.labels is None
    assert merged.images[:, 0, 0, 0].tolist() == [0.5, 0.5, 0.25, 0.25]


def test_shards_of_different_kinds_are_refused():
    whole = rich(0.5, [0, 1])
    for other in (replace(whole, stages=None), replace(whole, targets=None), rich(0.5, None)):
        with pytest.raises(UserError, match="different kinds of tensors"):
            merge_shards([whole, other], [torch.ones(2)] * 2, ["a", "b"], {})
