"""Sets whose images are (nearly) equal say so, and others do not."""

import pytest
import torch

from ddoq.decoding import likeness
from ddoq.decoding.likeness import likeness_warnings

NAMES = ["cat", "dog", "eel"]
LABELS = torch.arange(3).repeat_interleave(4)


def noise():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (12, 3, 4, 4), generator=generator).to(torch.uint8)


def test_images_that_differ_are_as_they_should_be():
    assert likeness_warnings(noise(), LABELS, NAMES) == []
    assert likeness_warnings(noise()[:3], torch.arange(3), NAMES) == []  # one image a class


def test_a_class_of_nearly_equal_images():
    images = noise()
    images[4:8] = 100
    images[4, 0, 0, 0] += 3
    expected = "the images of 1 of 3 classes are (nearly) equal: dog"
    assert likeness_warnings(images, LABELS, NAMES) == [expected]


def test_a_set_of_nearly_equal_images():
    images = torch.full((12, 3, 4, 4), 7, dtype=torch.uint8)
    images[3, 0] = 8
    assert likeness_warnings(images, LABELS, NAMES) == [
        "all 12 images of the set are (nearly) equal"
    ]
    assert likeness_warnings(images, None, NAMES) != []


def test_copies_count_within_classes_alone():
    images = noise()
    images[4] = images[0]  # of another class
    assert likeness_warnings(images, LABELS, NAMES) == []
    images[9] = images[8]
    expected = "1 of 12 images are exact copies of others of their class"
    assert likeness_warnings(images, LABELS, NAMES) == [expected]


def test_the_spread_is_that_of_all_images_whatever_the_blocks(monkeypatch):
    images = noise()
    values = images.flatten(1).double()
    expected = values.var(dim=0, correction=0).mean().sqrt()
    for block in (1, 5, 256):
        monkeypatch.setattr(likeness, "_BLOCK", block)
        assert likeness.spread(images) == pytest.approx(float(expected), rel=1e-12)
