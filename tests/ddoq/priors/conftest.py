"""Tiny DiT pipelines in diffusers' own folder format, and a tiny dataset."""

import pytest
import torch

from ddoq.data.base import ImageDataModule
from ddoq.data.class_registry import ClassRegistry
from ddoq.data.splits import TensorSplit


class RandomImages(ImageDataModule):
    """Random images of three classes."""

    name = "random-images"

    def __init__(self, classes: int = 3, image_size: int = 8, content: int = 0):
        super().__init__(image_size=image_size)
        self.class_count = classes
        self.content = content

    def load_splits(self):
        draws = torch.Generator().manual_seed(self.content)
        labels = torch.arange(self.class_count).repeat(6)
        shape = (2, len(labels), 3, self.image_size, self.image_size)
        images = torch.randint(256, shape, generator=draws).to(torch.uint8)
        splits = [TensorSplit(part, labels) for part in images]
        return splits[0], splits[1], ClassRegistry([f"class {i}" for i in range(self.class_count)])

    def source_fingerprint(self):
        return str(self.content)


@pytest.fixture
def make_random_data():
    def make(**kwargs) -> RandomImages:
        data = RandomImages(**kwargs)
        data.setup()
        return data

    return make
