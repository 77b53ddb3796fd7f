"""Sets to export and to import."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ddoq.distillation.distilled_set import DistilledSet


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def stored(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 6, 6), generator=generator, dtype=torch.uint8)
    distilled = DistilledSet(
        images,
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([0.5, 1.5, 0.7, 1.3]),
        ["cat", "dog"],
        {"method": "ddoq", "ipc": 2, "seed": 0, "class_keys": ["n1", "n2"]},
    )
    distilled.save(tmp_path / "set")
    return distilled


@pytest.fixture
def foreign(tmp_path):
    for label in range(2):
        folder = tmp_path / "rded" / f"{label:05d}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 100 * label, np.uint8)).save(folder / "a.jpg")
    return tmp_path / "rded"
