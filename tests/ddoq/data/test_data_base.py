import pytest
import torch

from ddoq.data import ClassRegistry, ImageDataModule, SubsetSplit, TensorSplit
from ddoq.data.base import limit_classes
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_tensors


def split_of(labels) -> TensorSplit:
    labels = torch.as_tensor(labels, dtype=torch.long)
    images = torch.arange(len(labels)).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return TensorSplit(images.to(torch.uint8).contiguous(), labels)


class Given(ImageDataModule):
    name = "given"

    def __init__(self, train=(0, 1, 2, 0, 1, 2, 0), test=(2, 1, 0, 0, 1), **kwargs):
        super().__init__(image_size=4, **kwargs)
        self.splits = split_of(train), split_of(test)
        self.opened = 0

    def load_splits(self):
        self.opened += 1
        return *self.splits, ClassRegistry(["ant", "bee", "cat"])

    def source_fingerprint(self):
        return hash_tensors({str(i): split.images for i, split in enumerate(self.splits)})


def ready(*args, **kwargs) -> Given:
    data = Given(*args, **kwargs)
    data.setup()
    return data


def test_setup_opens_once():
    data = ready()
    data.setup("fit")
    data.setup("predict")
    assert data.opened == 1
    assert data.num_classes == 3


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": (0, 1, 3)}, "training split of given has labels outside 0..2.*from 0 to 3"),
        ({"test": (0, 1, 2, -1)}, "test split of given has labels outside 0..2.*without a label"),
        ({"train": (0, 2)}, "training split of given has no image of 1 of 3 classes: bee"),
        ({"test": (2,)}, "test split of given has no image of 2 of 3 classes: ant, bee"),
        ({"test": ()}, "test split of given has no image"),
    ],
)
def test_labels_are_checked(splits, message):
    with pytest.raises(UserError, match=message):
        ready(**splits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit_per_class": 0}, "at least 1, not 0"),
        ({"test_limit_per_class": -1}, "at least 1, not -1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be positive"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(UserError, match=message):
        ready(**arguments)


def test_limits_keep_the_first_of_each_class_in_order():
    data = ready(limit_per_class=2, test_limit_per_class=1)
    assert data.train.load(range(6))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test.labels.tolist() == [2, 1, 0]
    assert limit_classes(data.splits[0], None, 3) is data.splits[0]
    assert len(limit_classes(data.splits[0], 100, 3)) == 7


def test_subsets_follow_their_positions():
    subset = SubsetSplit(split_of([0, 1, 2, 0]), torch.tensor([3, 1]))
    assert subset.labels.tolist() == [0, 1]
    assert subset.load([1, 0])[:, 0, 0, 0].tolist() == [1, 3]
    nested = SubsetSplit(subset, torch.tensor([1]))
    assert nested[0][0].eq(1).all()
    assert nested[0][1] == 1


def test_positions_of_a_class_and_batches_agree_with_single_images():
    split = split_of([0, 1, 0, 1, 1])
    assert split.of_class(1).tolist() == [1, 3, 4]
    assert split.of_class(7).tolist() == []
    batch = split.__getitems__([4, 0])
    assert [label for _, label in batch] == [1, 0]
    assert all(torch.equal(image, split[i][0]) for (image, _), i in zip(batch, [4, 0], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_test_loader_gives_every_image_once_in_order(workers):
    data = ready(batch_size=2, num_workers=workers)
    images, labels = map(torch.cat, zip(*data.test_dataloader(), strict=True))
    assert torch.equal(images, data.splits[1].images)
    assert torch.equal(labels, data.splits[1].labels)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64


def test_the_training_loader_shuffles_and_loses_nothing():
    data = ready(train=[0, 1, 2] * 40, batch_size=32)
    torch.manual_seed(0)
    images, labels = map(torch.cat, zip(*data.train_dataloader(), strict=True))
    order = images[:, 0, 0, 0].long()
    assert order.tolist() != list(range(120))
    assert order.sort().values.tolist() == list(range(120))
    assert torch.equal(labels, order % 3)


def test_fingerprint_follows_contents_and_nothing_else():
    base = ready().fingerprint
    assert ready().fingerprint == base
    assert ready(batch_size=3, num_workers=2).fingerprint == base
    others = [
        ready(limit_per_class=1),
        ready(test_limit_per_class=1),
        ready(train=(0, 1, 2, 0, 1, 2)),
        ready(mean=(0.5, 0.5, 0.5)),
        ready(std=(0.5, 0.5, 0.5)),
    ]
    assert len({base, *(data.fingerprint for data in others)}) == len(others) + 1
    described = ready(limit_per_class=1).describe()
    assert described["train_images"] == 3
    assert described["test_images"] == 5
    assert described["num_classes"] == 3
