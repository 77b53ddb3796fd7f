import pytest
import torch
from torch import nn

from benchmarks.students.batch_norm import statistics_parts

NORM, SYNC = nn.BatchNorm2d(3), nn.SyncBatchNorm(3)


@pytest.mark.parametrize(
    ("batch", "bn_batch", "sizes"),
    [
        (1024, 512, [512, 512]),  # SRe2L
        (512, 73, [74] + 6 * [73]),  # D4M: 512 over seven GPUs
        (1024, 73, 2 * [74] + 12 * [73]),
        (100, 512, [100]),  # a small set is one part
        (1024, 0, [1024]),
        (784, 512, [392, 392]),  # the last batch of 10,000 images
        (3, 2, [3]),  # one image has no statistics
        (5, 2, [3, 2]),
    ],
)
def test_parts_are_of_about_the_number_that_is_wanted(batch, bn_batch, sizes):
    parts = torch.zeros(batch).tensor_split(statistics_parts(NORM, batch, bn_batch))
    assert [len(part) for part in parts] == sizes


def test_every_rank_has_the_same_number_of_parts():
    assert statistics_parts(NORM, 1024, 256, 2) == 2  # of a share of 512
    assert statistics_parts(SYNC, 1024, 256, 2) == 4  # of the batch
    assert statistics_parts(SYNC, 9, 2, 2) == 2  # two images a rank and part


def test_networks_without_batch_norm_take_whole_batches():
    assert statistics_parts(nn.GroupNorm(1, 3), 1024, 512) == 1
