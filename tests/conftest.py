"""Tiny stand-ins that many tests share: a dataset of coloured noise, a prior without weights, a trainer."""

import contextlib
import os
import signal

# A shell lets its background jobs ignore Ctrl-C, `nohup` lets them ignore a closed terminal, and they hand that on; tests of
# interruption need both.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # of a thread
            signal.signal(number, handler)

# Two torch processes of two threads each starve one another; one thread a test process is fastest on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from ddoq.data import ClassRegistry, ImageDataModule, ImageSplit, TensorSplit
from ddoq.priors.base import Prior, Sampling
from ddoq.storage.fingerprints import hash_tensors

torch.set_num_threads(1)


# What starts processes and waits for them; begun first, so that at the end no worker is left alone with it.
LONG = ("ddp/", "faults/", "benchmarks/suites/test_runner.py", "benchmarks/run/test_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with long tests; the others keep their order."""
    here = Path(__file__).parent

    def is_short(item: pytest.Item) -> bool:
        inside = item.path.is_relative_to(here)
        return not (inside and item.path.relative_to(here).as_posix().startswith(LONG))

    items.sort(key=is_short)


class ColouredNoise(ImageDataModule):
    """Each class is a colour of its own with noise on it: separable, but no two images are equal."""

    name = "coloured-noise"

    def __init__(self, classes: int = 3, per_class: int = 20, image_size: int = 8, **kwargs):
        super().__init__(image_size=image_size, **kwargs)
        self.spec = (classes, per_class)

    def _split(self, seed: int) -> TensorSplit:
        classes, per_class = self.spec
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(classes).repeat(per_class)
        colours = torch.rand(classes, 3, 1, 1, generator=torch.Generator().manual_seed(0))
        noise = torch.randn(len(labels), 3, self.image_size, self.image_size, generator=generator)
        images = (colours[labels] + 0.1 * noise).clamp(0, 1)
        return TensorSplit((images * 255).to(torch.uint8), labels)

    def load_splits(self) -> tuple[ImageSplit, ImageSplit, ClassRegistry]:
        names = [f"colour {index}" for index in range(self.spec[0])]
        return self._split(1), self._split(2), ClassRegistry(names)

    def source_fingerprint(self) -> str:
        return hash_tensors({"train": self._split(1).images, "test": self._split(2).images})


class PoolingPrior(Prior):
    """Encodes by average pooling, decodes by repetition, 'generates' by adding a little noise."""

    def __init__(self, image_size: int = 8, num_classes: int = 3, factor: int = 4) -> None:
        super().__init__()
        self.image_size = image_size
        self.num_classes = num_classes
        self.factor = factor
        self.latent_shape = (3, image_size // factor, image_size // factor)
        self.fingerprint = f"pooling-{factor}"

    def encode(self, images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        latents = F.avg_pool2d(images, self.factor)
        if generator is not None:
            latents = latents + 0.01 * randn_tensor(latents.shape, generator=generator)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=float(self.factor)).clamp(0, 1)

    def generate(
        self,
        latents: Tensor,
        class_ids: Tensor,
        *,
        generators: Sequence[torch.Generator],
        sampling: Sampling | None = None,
    ) -> Tensor:
        strength = (sampling or Sampling()).strength
        noise = torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators])
        return self.decode(latents + 0.05 * strength * noise)


@pytest.fixture
def coloured_noise() -> Callable[..., ColouredNoise]:
    def make(**kwargs) -> ColouredNoise:
        data = ColouredNoise(**kwargs)
        data.setup()
        return data

    return make


@pytest.fixture
def pooling_prior() -> Callable[..., PoolingPrior]:
    return PoolingPrior


@pytest.fixture
def make_trainer() -> Callable[..., L.Trainer]:
    def make(inference_mode: bool = False) -> L.Trainer:
        return L.Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=inference_mode,
        )

    return make


@pytest.fixture
def trainer(make_trainer) -> L.Trainer:
    return make_trainer()
