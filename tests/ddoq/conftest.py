"""What tests of the library share."""

from pathlib import Path

import pytest
from tiny_pipelines import build_dit


@pytest.fixture
def parts(coloured_noise, pooling_prior):
    return coloured_noise(), pooling_prior()


@pytest.fixture
def make_pipeline():
    return build_dit


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A saved pipeline of five classes with learned variance."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    build_dit(learned_sigma=True).save_pretrained(folder)
    return folder


@pytest.fixture
def quiet() -> dict:
    """Trainer arguments for tests."""
    return {"accelerator": "cpu", "enable_progress_bar": False, "barebones": False}
