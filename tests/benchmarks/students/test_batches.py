import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.students.batches import CachedBatches, EpochPositions, batch_sizes, epoch_order


@pytest.mark.parametrize(
    ("n", "batch_size", "world_size", "sizes"),
    [
        (100, 50, 1, [50, 50]),
        (101, 50, 1, [50, 51]),  # one image alone has no batch statistics
        (102, 50, 1, [50, 50, 2]),
        (30, 50, 1, [30]),  # the whole set where it is smaller than a batch
        (1, 50, 1, [1]),
        (102, 50, 2, [50, 52]),  # a rank without an image would hang the others
        (104, 50, 2, [50, 50, 4]),
    ],
)
def test_sizes(n, batch_size, world_size, sizes):
    batches = EpochPositions(n, batch_size, seed=0, world_size=world_size)
    assert [len(batch) for batch in batches] == sizes
    assert len(batches) == len(sizes)


def test_every_image_once_an_epoch_in_an_order_of_its_own():
    batches = EpochPositions(20, 6, seed=0)
    first = torch.cat(list(batches))
    assert torch.equal(first, torch.cat(list(batches)))
    batches.epoch = 1
    second = torch.cat(list(batches))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert not torch.equal(first, second)
    assert not torch.equal(first, torch.cat(list(EpochPositions(20, 6, seed=1))))


class CountingLoader:
    def __init__(self) -> None:
        images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 2)
        self.loader = DataLoader(TensorDataset(images.clone(), torch.arange(5)), batch_size=2)
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        return iter(self.loader)


@pytest.mark.parametrize(("budget", "passes"), [(60, 1), (59, 3)])
def test_test_images_are_decoded_once_within_the_budget(budget, passes):
    loader = CountingLoader()
    cached = CachedBatches(lambda: loader, torch.device("cpu"), budget)
    rounds = [list(cached) for _ in range(3)]
    for batches in rounds:
        assert torch.cat([labels for _, labels in batches]).tolist() == list(range(5))
        assert torch.cat([images for images, _ in batches])[:, 0, 0, 0].tolist() == list(range(5))
    assert loader.passes == passes


def test_testing_leaves_the_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(CachedBatches(CountingLoader, torch.device("cpu"), 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_iteration_goes_on_behind_the_batches_that_were_given():
    whole = EpochPositions(10, 3, seed=0)
    whole.epoch = 4
    expected = [batch.tolist() for batch in whole]
    for done in range(len(expected) + 1):
        killed, resumed = EpochPositions(10, 3, seed=0), EpochPositions(10, 3, seed=0)
        killed.epoch = resumed.epoch = 4
        given = iter(killed)
        for _ in range(done):
            next(given)
        resumed.load_state_dict(killed.state_dict())
        rest = [batch.tolist() for batch in resumed]
        # All of them given: the next iteration is a whole one.
        assert rest == (expected[done:] if done < len(expected) else expected)
        assert len(list(resumed)) == len(expected)


def test_sizes_and_order_stand_alone():
    batches = EpochPositions(11, 4, seed=5, world_size=2)
    batches.epoch = 3
    parts = epoch_order(11, 5, 3).split(batch_sizes(11, 4, 2))
    assert [part.tolist() for part in parts] == [batch.tolist() for batch in batches]
