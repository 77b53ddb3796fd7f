"""Configurations refuse what cannot be trained."""

import pytest

from ddoq.errors import UserError
from ddoq.priors.training.config import DiTConfig, VAEConfig, check_image_size


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ()},
        {"channels": (12,)},
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"kl_weight": -1.0},
    ],
)
def test_bad_vae(changes):
    with pytest.raises(UserError, match="vae"):
        VAEConfig(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 0},
        {"heads": 1, "head_dim": 3},
        {"label_dropout": 0.0},
        {"label_dropout": 1.0},
        {"ema_decay": 1.0},
        {"learning_rate": -1.0},
        {"min_snr": 0.0},
    ],
)
def test_bad_dit(changes):
    with pytest.raises(UserError, match="dit"):
        DiTConfig(**changes)


@pytest.mark.parametrize(
    ("size", "channels", "patch"), [(16, 2, 2), (28, 2, 2), (32, 3, 2), (28, 3, 1)]
)
def test_sizes_that_divide(size, channels, patch):
    vae = VAEConfig(channels=(8,) * channels)
    check_image_size(size, vae, DiTConfig(patch_size=patch))
    assert vae.downsampling == 2 ** (channels - 1)


def test_size_that_does_not_divide_names_those_that_do():
    with pytest.raises(UserError, match=r"multiple of 8.*24 or 32"):
        check_image_size(28, VAEConfig(channels=(8, 8, 8)), DiTConfig(patch_size=2))
