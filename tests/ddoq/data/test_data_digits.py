import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from ddoq.data import Digits
from ddoq.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Digits:
    data = Digits()
    data.setup()
    return data


def test_shapes_and_names(digits):
    images, labels = digits.train.load(range(len(digits.train))), digits.train.labels
    assert images.shape == (1347, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert digits.classes.names[:3] == ["zero", "one", "two"]
    assert digits.classes[9].prompt == "a handwritten digit nine"
    assert digits.mean == digits.std == (0.5, 0.5, 0.5)


def test_the_stored_size_is_the_source_bit_for_bit():
    data = Digits(image_size=8)
    data.setup()
    source = load_digits()
    scaled = torch.as_tensor(source.images / 16 * 255).round().to(torch.uint8)
    found = torch.cat([data.train.load(range(1347)), data.test.load(range(450))])[:, 0]
    labels = torch.cat([data.train.labels, data.test.labels])

    def rows(images, targets):
        return sorted((int(t), *i.flatten().tolist()) for i, t in zip(images, targets, strict=True))

    assert rows(found, labels) == rows(
        scaled, source.target
    )  # no image lost, doubled or mislabelled


def test_enlarging_keeps_the_picture(digits):
    small = torch.nn.functional.avg_pool2d(digits.test.load(range(450)).float(), 2)[:, 0]
    data = Digits(image_size=8)
    data.setup()
    assert (small - data.test.load(range(450))[:, 0].float()).abs().mean() < 12


def test_the_split_is_stratified(digits):
    train, test = (
        torch.bincount(split.labels, minlength=10) for split in (digits.train, digits.test)
    )
    assert ((test / (train + test)) - 0.25).abs().max() < 0.01


def test_the_split_is_the_same_whatever_the_global_seed(digits):
    torch.manual_seed(1234)
    again = Digits()
    again.setup()
    assert again.fingerprint == digits.fingerprint
    assert torch.equal(again.train.labels, digits.train.labels)


def test_the_image_size_is_part_of_the_fingerprint(digits):
    small = Digits(image_size=8)
    small.setup()
    assert small.fingerprint != digits.fingerprint
    assert small.source_fingerprint() == digits.source_fingerprint()


def test_importing_the_package_imports_no_dataset_library():
    code = (
        "import sys, ddoq.data as d; d.Digits();"
        "heavy = {'datasets', 'sklearn', 'pyarrow.parquet'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [0, -1, 513, 100_000, 16.5])
def test_a_side_that_would_not_fit_into_memory_is_refused(size):
    with pytest.raises(UserError, match="image_size must be at least 1 and at most 512 pixels"):
        Digits(image_size=size)
