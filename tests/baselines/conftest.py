"""Tiny data for the baselines: noisy images around a few colours, and scikit-learn's digits."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from ddoq.data import ImageDataModule, TensorSplit
from ddoq.data.class_registry import ClassRegistry
from ddoq.storage.fingerprints import hash_tensors
from ddoq.teachers import Teacher


class HeldData(ImageDataModule):
    """A dataset given as tensors; its test split is its training split."""

    name = "held"

    def __init__(self, images, labels, names):
        super().__init__(image_size=images.shape[-1], mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        self.held = TensorSplit(images, labels)
        self.names = names

    def load_splits(self):
        return self.held, self.held, ClassRegistry(self.names)

    def source_fingerprint(self):
        return hash_tensors({"images": self.held.images, "labels": self.held.labels})


@pytest.fixture
def make_data() -> Callable[..., HeldData]:
    """Make noise images in shuffled class order."""

    def make(num_classes=3, per_class=12, image_size=8, seed=0):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(num_classes * per_class) % num_classes
        labels = labels[torch.randperm(len(labels), generator=generator)]
        shape = (len(labels), 3, image_size, image_size)
        images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
        data = HeldData(images, labels, [f"class {i}" for i in range(num_classes)])
        data.setup()
        return data

    return make


@pytest.fixture(scope="session")
def digits() -> HeldData:
    """Scikit-learn's digits, enlarged to 16 pixels."""
    source = load_digits()
    gray = torch.tensor(source.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(gray, size=16, mode="bilinear").expand(-1, 3, -1, -1)
    data = HeldData(
        (images * 255).round().to(torch.uint8), torch.tensor(source.target), list("0123456789")
    )
    data.setup()
    return data


@pytest.fixture
def colour_teacher() -> Callable[[HeldData], Teacher]:
    """Make a teacher whose features of an image are its three mean colours, pixels in [-2, 2]."""

    def make(data: HeldData) -> Teacher:
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Teacher(
            nn.Sequential(pooled, nn.Linear(3, data.num_classes)),
            arch="colours",
            class_names=data.classes.names,
            class_keys=data.classes.keys,
            image_size=data.image_size,
            accuracy=0.5,
            mean=data.mean,
            std=data.std,
        )

    return make
