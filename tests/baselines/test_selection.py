import pytest
import torch

from baselines.selection import check_class_sizes, keep
from ddoq.errors import UserError


def test_smallest_class_decides(make_data):
    data = make_data(num_classes=2, per_class=6)
    data.train.labels[data.train.of_class(1)[0]] = 0  # 7 and 5
    check_class_sizes(data, 5)
    with pytest.raises(UserError, match="class 'class 1' of held has only 5 training images"):
        check_class_sizes(data, 6)


def test_keep_loads_in_the_order_given(make_data):
    data = make_data()
    indices = data.train.of_class(2)[[3, 0]]
    shard = keep(data, 2, indices, {"counts": torch.tensor([1, 2])}, {"points": 12})
    assert torch.equal(shard.images, data.train.load(indices.tolist()))
    assert shard.images.dtype == torch.uint8
    assert shard.labels.tolist() == [2, 2]
    assert set(shard.extras) == {"indices", "counts"}
    assert shard.info == {"indices": indices.tolist(), "points": 12}
