"""Distilled sets and folders of images that nobody distilled."""

import numpy as np
import pytest
import torch
from PIL import Image

from ddoq.distillation.distilled_set import DistilledSet


def _make_set(names=("tabby cat", "dog", "crane"), ipc=2, size=6, metadata=None, order=None):
    generator = torch.Generator().manual_seed(0)
    count = len(names)
    labels = torch.arange(count).repeat_interleave(ipc)
    weights = torch.rand(count, ipc, generator=generator) + 0.1
    weights = (weights / weights.mean(1, keepdim=True)).flatten()
    shape = (count * ipc, 3, size, size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if order is not None:
        images, labels, weights = images[order], labels[order], weights[order]
    default = {
        "method": "ddoq",
        "ipc": ipc,
        "seed": 3,
        "class_keys": [f"n{i}" for i in range(count)],
    }
    return DistilledSet(
        images, labels, weights, list(names), default if metadata is None else metadata
    )


@pytest.fixture
def make_set():
    return _make_set


@pytest.fixture
def folder_of(tmp_path):
    """Write two images a class folder, each of one grey level that tells folder and image."""

    def make(names, size=(6, 6), suffix=".jpg", where="foreign"):
        root = tmp_path / where
        for number, name in enumerate(names):
            (root / name).mkdir(parents=True)
            for k in range(2):
                pixels = np.full((size[1], size[0], 3), 20 * number + 5 * k, np.uint8)
                Image.fromarray(pixels).save(root / name / f"image{k}{suffix}")
        return root

    return make
