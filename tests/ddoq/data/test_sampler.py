import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from ddoq.data.sampler import ExactDistributedSampler
from ddoq.errors import UserError


@pytest.mark.parametrize(("samples", "ranks"), [(101, 2), (7, 3), (8, 4), (5, 5), (1, 1)])
def test_every_sample_comes_once(samples, ranks):
    parts = [ExactDistributedSampler(range(samples), ranks, rank) for rank in range(ranks)]
    assert sorted(i for part in parts for i in part) == list(range(samples))
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_padding_that_it_replaces_is_real():
    padded = [i for rank in (0, 1) for i in DistributedSampler(range(101), 2, rank, shuffle=False)]
    assert len(padded) == 102


def test_it_takes_one_process_as_the_default():
    sampler = ExactDistributedSampler(range(4))
    assert isinstance(sampler, DistributedSampler)
    assert list(sampler) == [0, 1, 2, 3]
    assert list(sampler) == [0, 1, 2, 3]


def test_the_epoch_changes_nothing():
    sampler = ExactDistributedSampler(range(10), 2, 1)
    before = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == before == [1, 3, 5, 7, 9]


@pytest.mark.parametrize(("samples", "ranks"), [(1, 2), (0, 1)])
def test_a_rank_without_samples_is_refused(samples, ranks):
    with pytest.raises(UserError, match="fewer devices"):
        ExactDistributedSampler(range(samples), ranks, 0)


def test_accuracy_over_ranks_is_exact():
    generator = torch.Generator().manual_seed(0)
    right = TensorDataset((torch.rand(101, generator=generator) < 0.9).float())
    batches = [
        batch
        for rank in (0, 1)
        for (batch,) in DataLoader(
            right, batch_size=16, sampler=ExactDistributedSampler(right, 2, rank)
        )
    ]
    assert torch.cat(batches).mean() == pytest.approx(right.tensors[0].mean().item())
