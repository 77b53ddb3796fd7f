import pytest
import torch

from ddoq.data import (
    ClassRegistry,
    Digits,
    FewImages,
    ImageDataModule,
    ImageFolderImages,
    SubsetSplit,
    SyntheticImages,
    TensorSplit,
    load_registry,
)
from ddoq.errors import UserError


def opened(module):
    module.setup()
    return module


class Many(ImageDataModule):
    """Twelve classes of twenty images whose pixels say their class."""

    name = "many"

    def __init__(self, image_size: int = 4, labels: list[int] | None = None) -> None:
        super().__init__(image_size, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
        self.labels = torch.arange(12).repeat(20) if labels is None else torch.tensor(labels)

    def load_splits(self):
        images = self.labels.clamp(min=0).to(torch.uint8).reshape(-1, 1, 1, 1)
        split = TensorSplit(images.expand(-1, 3, self.image_size, self.image_size), self.labels)
        keys = [f"n{k}" for k in range(12)]
        return split, split, ClassRegistry(keys, prompts=[f"a {key}" for key in keys])

    def source_fingerprint(self):
        raise AssertionError("the whole source is hashed")


def test_the_first_images_of_the_first_classes_are_kept():
    few = opened(FewImages(Many(), classes=5, train_per_class=3, test_per_class=2))
    assert (few.num_classes, len(few.train), len(few.test)) == (5, 15, 10)
    assert few.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert few.train.load([0, 14])[:, 0, 0, 0].tolist() == [0, 4]
    assert [info.prompt for info in few.classes][:2] == ["a n0", "a n1"]
    assert (few.mean, few.std, few.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 4)
    assert few.name == "many-smoke"


def test_all_classes_are_kept_on_request_and_none_beyond_those_there_are():
    assert opened(FewImages(Many(), classes=None)).num_classes == 12
    assert opened(FewImages(Many(), classes=99)).num_classes == 12


def test_only_chosen_images_count_in_the_fingerprint():
    first, other = opened(FewImages(Many())), opened(FewImages(Many(), train_per_class=7))
    assert first.fingerprint == opened(FewImages(Many())).fingerprint
    assert first.fingerprint != other.fingerprint


def test_photographs_are_still_decoded_at_the_size_of_a_prior(monkeypatch):
    asked = []

    def at_size(split, size, *, stretch):
        asked.append((size, stretch))
        return split

    few = opened(FewImages(Many()))
    assert isinstance(few.train, SubsetSplit)
    monkeypatch.setattr(TensorSplit, "at_size", at_size)
    few.train.at_size(64)
    few.train.at_size(32, stretch=True)
    assert asked == [(64, False), (32, True)]


def test_labels_of_the_whole_source_are_checked():
    with pytest.raises(UserError, match=r"labels outside 0\.\.11"):
        opened(FewImages(Many(labels=[*range(12), -1])))
    with pytest.raises(UserError, match="has no image of 1 of 12 classes"):
        opened(FewImages(Many(labels=[*range(11)])))


def test_data_that_are_not_there_name_the_way_without_them(tmp_path):
    source = ImageFolderImages(str(tmp_path / "nowhere"), dataset_name="none", image_size=8)
    with pytest.raises(UserError, match=r"nowhere.*--smoke synthetic"):
        opened(FewImages(source))


@pytest.mark.parametrize("name", ["classes", "train_per_class", "test_per_class"])
def test_no_images_are_refused(name):
    with pytest.raises(UserError, match=f"{name} must be at least 1, not 0"):
        FewImages(Digits(), **{name: 0})


def test_datasets_are_made_small_by_their_own_arguments():
    assert Digits.tiny({"image_size": 224, "num_workers": 8}) == {
        "image_size": 16,
        "num_workers": 0,
    }
    assert Digits.tiny({"image_size": 8})["image_size"] == 8
    assert Many.tiny({}) == {"image_size": 16}  # it has no workers
    assert Digits.stand_in == "ddoq.data.SyntheticImages"


def test_synthetic_images_are_the_same_every_time_and_separable():
    one, two = opened(SyntheticImages()), opened(SyntheticImages())
    assert one.fingerprint == two.fingerprint
    images = one.train.load(range(len(one.train)))
    assert torch.equal(images, two.train.load(range(len(two.train))))
    assert len(images.flatten(1).unique(dim=0)) == len(images)
    colours = images.float().mean(dim=(2, 3))
    centres = torch.stack([colours[one.train.of_class(k)].mean(0) for k in range(10)])
    test = one.test.load(range(len(one.test))).float().mean(dim=(2, 3))
    assert torch.equal(torch.cdist(test, centres).argmin(1), one.test.labels)


def test_synthetic_images_have_the_classes_of_what_they_stand_for():
    given = {"registry": "imagenette", "mean": [0.1] * 3, "std": [0.2] * 3, "image_size": 224}
    changes = SyntheticImages.tiny(given)
    assert changes == {**given, "image_size": 16}
    assert opened(SyntheticImages(**changes)).classes.keys == load_registry("imagenette").keys
    assert opened(SyntheticImages()).num_classes == 10


@pytest.mark.parametrize("size", [0, 100_000, None])
def test_a_smoke_run_refuses_the_sides_that_the_run_would(size):
    with pytest.raises(UserError, match="image_size must be at least 1 and at most 512"):
        Digits(**Digits.tiny({"image_size": size}))
