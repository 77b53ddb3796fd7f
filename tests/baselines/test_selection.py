import torch

from baselines.selection import keep


def test_keep_loads_in_the_order_given(make_data):
    data = make_data()
    indices = data.train.of_class(2)[[3, 0]]
    shard = keep(data, 2, indices, {"counts": torch.tensor([1, 2])}, {"points": 12})
    assert torch.equal(shard.images, data.train.load(indices.tolist()))
    assert shard.images.dtype == torch.uint8
    assert shard.labels.tolist() == [2, 2]
    assert set(shard.extras) == {"indices", "counts"}
    assert shard.info == {"indices": indices.tolist(), "points": 12}
