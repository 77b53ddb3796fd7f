"""Tiny DiT pipelines in diffusers' own folder format, and a tiny dataset."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from ddoq.data.base import ImageDataModule, TensorSplit
from ddoq.data.registry import ClassRegistry


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


def build_pipeline(
    classes: int = 5, learned_sigma: bool = False, seed: int = 0, **vae
) -> DiTPipeline:
    """Make a random pipeline for 8 x 8 images with latents of 2 x 4 x 4."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dit = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=2,
            out_channels=4 if learned_sigma else 2,
            num_layers=2,
            sample_size=4,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
        settings = {"scaling_factor": 0.7, **vae}
        encoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            latent_channels=2,
            norm_num_groups=4,
            sample_size=8,
            **settings,
        )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    return DiTPipeline(dit.eval(), encoder.eval(), scheduler)


@pytest.fixture
def make_pipeline():
    return build_pipeline


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A saved pipeline of five classes with learned variance."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    build_pipeline(learned_sigma=True).save_pretrained(folder)
    return folder


@pytest.fixture
def make_random_data():
    def make(**kwargs) -> RandomImages:
        data = RandomImages(**kwargs)
        data.setup()
        return data

    return make


@pytest.fixture
def quiet() -> dict:
    """Trainer arguments for tests."""
    return {"accelerator": "cpu", "enable_progress_bar": False, "barebones": False}
