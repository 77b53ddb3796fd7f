import pytest
import torch

from ddoq.data import ClassRegistry, ImageDataModule, SubsetSplit, TensorSplit
from ddoq.data.splits import limit_classes
from ddoq.errors import UserError
from ddoq.storage.fingerprints import hash_config, hash_tensors


def split_of(labels) -> TensorSplit:
    labels = torch.as_tensor(labels, dtype=torch.long)
    images = torch.arange(len(labels)).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return TensorSplit(images.to(torch.uint8).contiguous(), labels)


class Given(ImageDataModule):
    name = "given"

    def __init__(self, train=(0, 1, 2, 0, 1, 2, 0), test=(2, 1, 0, 0, 1), **kwargs):
        super().__init__(**{"image_size": 4, **kwargs})
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
    seen, normalized, tested = (
        [getattr(data, name) != getattr(ready(), name) for data in others]
        for name in ("train_fingerprint", "normalized_fingerprint", "test_fingerprint")
    )
    assert seen == [True, False, True, False, False]
    assert normalized == [True, False, True, True, True]
    assert tested[:2] == [False, True]
    assert described["train_images"] == 3
    assert described["test_images"] == 5
    assert described["num_classes"] == 3


def test_a_test_resize_changes_the_test_images_and_their_keys_alone():
    base, resized = ready(), ready(test_resize=5)
    assert base.test is base.whole_test
    assert torch.equal(resized.whole_test.load(range(5)), base.test.load(range(5)))
    for name in ("train_fingerprint", "normalized_fingerprint"):
        assert getattr(resized, name) == getattr(base, name)
    assert resized.test_fingerprint != base.test_fingerprint
    assert resized.describe() == {**base.describe(), "test_resize": 5}


def test_keys_of_images_without_a_larger_resize_stay():
    # Of a dataset as it was before test images were resized; sources and classes are hashes of contents.
    data = ready()
    assert "test_resize" not in data.describe()
    names = ("source", "classes", "image_size", "test_limit_per_class", "test_images")
    described = data.describe()
    assert data.test_fingerprint == hash_config({name: described[name] for name in names})


@pytest.mark.parametrize(("side", "resize"), [(16, 16), (32, 32), (64, 64), (128, 128), (224, 256)])
def test_without_a_recipe_the_standard_resize_counts(side, resize):
    assert Given(image_size=side).test_resize == resize


def test_a_protocol_resizes_test_images_unless_the_dataset_says_how():
    data = ready()
    other = data.with_test_resize(5)
    assert (data.test_resize, other.test_resize) == (4, 5)
    assert torch.equal(other.test.load(range(5)), ready(test_resize=5).test.load(range(5)))
    assert other.train is data.train
    assert data.with_test_resize(4) is data
    assert other.with_test_resize(4).describe() == data.describe()
    given = ready(test_resize=6)
    assert given.with_test_resize(5) is given


@pytest.mark.parametrize("resize", [3, 9, 4.5, 0])
def test_a_test_resize_that_cannot_be_is_refused(resize):
    with pytest.raises(UserError, match=rf"test_resize must be .* from 4 .* to 8, not {resize}"):
        Given(test_resize=resize)


def test_another_training_split_is_another_dataset():
    data = ready()
    chosen = data.with_train(SubsetSplit(data.train, torch.tensor([0, 1, 2])))
    assert chosen.train.labels.tolist() == [0, 1, 2]
    assert chosen.test is data.test
    assert chosen.classes is data.classes
    assert len(data.train) == 7  # the dataset itself stays as it was
    described, changed = data.describe(), chosen.describe()
    assert changed.pop("train_split")
    assert changed == {**described, "train_images": 3}
    assert chosen.fingerprint != data.fingerprint
    chosen.setup()
    assert len(chosen.train) == 3
    assert len(next(iter(chosen.train_dataloader()))[0]) == 3


def test_its_fingerprint_follows_the_positions_and_the_whole():
    def chosen(data, positions):
        return data.with_train(SubsetSplit(data.train, torch.tensor(positions)))

    first = chosen(ready(), [0, 1, 2])
    assert first.fingerprint == chosen(ready(), [0, 1, 2]).fingerprint
    others = [
        chosen(ready(), [3, 1, 2]),
        chosen(ready(), [1, 0, 2]),
        chosen(ready(test=(0, 1, 2)), [0, 1, 2]),
        chosen(chosen(ready(), [0, 1, 2]), [0, 1, 2]),  # of another whole
        chosen(ready(limit_per_class=2), [0, 1, 2]),
    ]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert ready().with_train(ready().train).fingerprint != ready().fingerprint


def test_positions_of_a_known_split_are_hashed_without_decoding_it(monkeypatch):
    data = ready()
    loads = []
    original = TensorSplit.load
    monkeypatch.setattr(
        TensorSplit, "load", lambda self, indices: loads.append(indices) or original(self, indices)
    )
    data.with_train(SubsetSplit(SubsetSplit(data.train, torch.arange(6)), torch.arange(3)))
    assert loads == [[0]]  # one image, for its size


def test_images_from_elsewhere_are_hashed():
    data = ready()
    one, other = split_of([0, 1, 2]), split_of([0, 1, 2])
    assert data.with_train(one).fingerprint == data.with_train(other).fingerprint
    other.images[1] += 1
    assert data.with_train(one).fingerprint != data.with_train(other).fingerprint
    relabelled = TensorSplit(one.images, torch.tensor([2, 1, 0]))
    assert data.with_train(one).fingerprint != data.with_train(relabelled).fingerprint
    swapped = SubsetSplit(data.train, torch.tensor([0, 1, 2]))
    swapped.labels = torch.tensor([2, 1, 0])
    plain = SubsetSplit(data.train, torch.tensor([0, 1, 2]))
    assert data.with_train(swapped).fingerprint != data.with_train(plain).fingerprint


def test_its_own_split_changes_nothing():
    data = ready()
    assert data.with_train(data.train) is data
    assert "train_split" not in data.describe()


def test_splits_that_do_not_fit_are_refused():
    data = ready()
    with pytest.raises(UserError, match="given training split of given has no image of 1 of 3 cl"):
        data.with_train(SubsetSplit(data.train, torch.tensor([0, 1])))
    with pytest.raises(UserError, match="given training split of given has no image"):
        data.with_train(SubsetSplit(data.train, torch.tensor([], dtype=torch.long)))
    wide = TensorSplit(torch.zeros(3, 3, 4, 5, dtype=torch.uint8), torch.arange(3))
    with pytest.raises(
        UserError, match=r"images of 4 pixels, the given training split of \(3, 4, 5"
    ):
        data.with_train(wide)
