import pytest
import torch
from torchvision.transforms import v2 as transforms

from ddoq.data import SubsetSplit, TensorSplit
from ddoq.data.splits import CachedSplit, maybe_cached


class CountingSplit(TensorSplit):
    """Remembers which images were decoded."""

    def __init__(self, n: int) -> None:
        images = torch.arange(n).reshape(n, 1, 1, 1).expand(n, 3, 4, 4).to(torch.uint8)
        super().__init__(images.contiguous(), torch.arange(n) % 2)
        self.decoded: list[int] = []

    def load(self, indices):
        self.decoded += list(indices)
        return super().load(indices)


def test_each_image_is_decoded_once_and_only_if_asked_for():
    source = CountingSplit(20)
    cached = CachedSplit(source, 4)
    assert source.decoded == []
    assert torch.equal(cached.load([3, 1, 3]), source.images[[3, 1, 3]])
    assert torch.equal(cached.load(range(10)), source.images[:10])
    assert torch.equal(cached[5][0], source.images[5])
    assert sorted(source.decoded) == list(range(10))
    assert cached.load([]).shape == (0, 3, 4, 4)


def test_what_is_returned_may_be_changed():
    cached = CachedSplit(CountingSplit(4), 4)
    cached.load([2]).fill_(99)
    assert cached.load([2]).eq(2).all()


@pytest.mark.parametrize(
    ("wanted", "size", "expected"), [(None, 4, True), (None, 20_000, False), (False, 4, False)]
)
def test_small_splits_are_kept_unasked(wanted, size, expected):
    split = CountingSplit(3)
    assert (maybe_cached(split, size, wanted) is not split) == expected


def test_another_size_is_asked_of_a_source_that_has_one():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    cached = CachedSplit(TensorSplit(images, torch.arange(2)), 4)
    assert cached.at_size(8) is cached  # the source has this size alone
    assert cached.at_size(4) is cached


def noise(n=3, side=28) -> TensorSplit:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    return TensorSplit(images, torch.arange(n))


def test_centres_of_images_that_exist_at_one_size_only():
    source = noise()
    centred = source.centred(28, 32)
    official = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28)])
    expected = torch.stack([official(image) for image in source.images])
    assert torch.equal(centred.load(range(3)), expected)
    assert torch.equal(centred.labels, source.labels)
    assert not torch.equal(expected, source.images)


def test_centres_of_a_part_and_of_what_is_kept():
    source, positions = noise(), torch.tensor([2, 0])
    expected = source.centred(28, 32).load([2, 0])
    part = SubsetSplit(source, positions)
    part.labels = torch.tensor([7, 8])
    assert torch.equal(part.centred(28, 32).load([0, 1]), expected)
    assert part.centred(28, 32).labels.tolist() == [7, 8]
    kept = CachedSplit(source, 28).centred(28, 32)
    assert isinstance(kept, CachedSplit)
    assert torch.equal(kept.load([2, 0]), expected)
