import pytest
import torch

from baselines.whole_dataset import WholeDataset
from benchmarks.students.recipes import load_recipe
from ddoq.data import ImageDataModule, TensorSplit
from ddoq.data.class_registry import ClassRegistry


class Uneven(ImageDataModule):
    """Three classes of 5, 2 and 3 images; every pixel of an image is its position in the split."""

    name = "uneven"

    def load_splits(self):
        labels = torch.tensor([0, 2, 0, 1, 0, 2, 0, 1, 2, 0])
        images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 8, 8)
        split = TensorSplit(images.contiguous(), labels)
        return split, split, ClassRegistry(["a", "b", "c"])

    def source_fingerprint(self):
        return "uneven"


def uneven(**kwargs):
    data = Uneven(image_size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), **kwargs)
    data.setup()
    return data


def run(data, trainer, folder):
    distiller = WholeDataset()
    distiller.check(data)  # before it is attached, as a run does
    distiller.attach(data)
    return distiller.run(trainer, folder)


def test_every_image_is_kept_once_with_its_label_and_weight_1(trainer, tmp_path):
    distilled, _ = run(uneven(), trainer, tmp_path)
    assert distilled.images[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 9, 3, 7, 1, 5, 8]
    assert distilled.labels.tolist() == [0] * 5 + [1] * 2 + [2] * 3
    assert torch.equal(distilled.weights, torch.ones(10))


def test_the_largest_class_is_the_images_per_class_everywhere(trainer, tmp_path):
    distilled, folder = run(uneven(), trainer, tmp_path)
    assert distilled.ipc == 5
    assert distilled.metadata["ipc"] == 5
    assert folder.name.startswith("full-ipc5-")
    assert distilled.effective_ipc == pytest.approx((5 + 2 + 3) / 3)
    assert load_recipe("hard_idc").plan(distilled.ipc, 3, len(distilled), 8).batch_size <= 10


def test_the_limit_of_the_data_caps_it(trainer, tmp_path):
    whole, _ = run(uneven(), trainer, tmp_path)
    capped, folder = run(uneven(limit_per_class=2), trainer, tmp_path)
    assert capped.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert capped.ipc == 2
    assert folder.name.startswith("full-ipc2-")
    assert len(whole) == 10


def test_there_is_nothing_to_set_and_nothing_is_drawn(trainer, tmp_path):
    first, _ = run(uneven(), trainer, tmp_path / "a")
    again, _ = run(uneven(), trainer, tmp_path / "b")
    assert first.metadata["settings"] == {}
    assert first.fingerprint == again.fingerprint
    assert not WholeDataset().needs_prior
    assert not WholeDataset().needs_teacher


def test_the_set_survives_the_disk(trainer, tmp_path):
    distilled, folder = run(uneven(), trainer, tmp_path)
    loaded = type(distilled).load(folder)
    assert loaded.metadata["method"] == "full"
    assert loaded.fingerprint == distilled.fingerprint


def test_digits_are_kept_as_they_are(digits, trainer, tmp_path):
    distilled, _ = run(digits, trainer, tmp_path)
    assert len(distilled) == 1797
    assert distilled.ipc == 183
    assert torch.equal(distilled.images[0], digits.train.load([0])[0])
