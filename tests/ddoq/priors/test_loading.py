"""Opening folders: what is missing is named, and old hub layouts load."""

import json
import shutil

import diffusers
import pytest
import torch

from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior
from ddoq.priors.loading import PARTS, find_format, open_pipeline, parse_dtype


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


@pytest.mark.parametrize("part", PARTS)
def test_missing_part_is_named(copied, part):
    (copied / part).unlink()
    with pytest.raises(UserError, match=part):
        DiffusionPrior.from_pretrained(copied)


def test_missing_weights_are_a_user_error(copied):
    (copied / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        DiffusionPrior.from_pretrained(copied)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        DiffusionPrior.from_pretrained(tmp_path / "nowhere")


def test_unreachable_hub_model_says_what_to_do(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr(diffusers.DiTPipeline, "from_pretrained", refuse)
    with pytest.raises(UserError, match="hf download somebody/something --local-dir"):
        open_pipeline("somebody/something", torch.float32)


def test_folder_as_the_dit_authors_published_it(copied):
    # facebook/DiT-XL-2-256 predates DiTTransformer2DModel and names the class Transformer2DModel.
    index = json.loads((copied / "model_index.json").read_text())
    index["transformer"] = ["diffusers", "Transformer2DModel"]
    (copied / "model_index.json").write_text(json.dumps(index))
    config = json.loads((copied / "transformer/config.json").read_text())
    config["_class_name"] = "Transformer2DModel"
    (copied / "transformer/config.json").write_text(json.dumps(config))
    prior = DiffusionPrior.from_pretrained(copied)
    assert type(prior.transformer).__name__ == "DiTTransformer2DModel"


def test_parts_that_do_not_belong_together(copied, make_pipeline, tmp_path):
    other = make_pipeline()
    other.vae = diffusers.AutoencoderKL(block_out_channels=(32,), latent_channels=4)
    other.save_pretrained(tmp_path / "mixed")
    with pytest.raises(UserError, match="4 latent channels, the transformer 2"):
        DiffusionPrior.from_pretrained(tmp_path / "mixed")


def test_latent_side_of_odd_length_is_refused(make_pipeline, tmp_path):
    odd = make_pipeline()
    odd.transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=2,
        num_layers=1,
        sample_size=5,
        patch_size=2,
        num_embeds_ada_norm=5,
    )
    odd.save_pretrained(tmp_path / "odd")
    with pytest.raises(UserError, match=r"sample_size 5, which patches of 2 \(patch_size\)"):
        DiffusionPrior.from_pretrained(tmp_path / "odd")


def test_model_that_the_hub_does_not_have(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("404 Client Error: repository not found")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "load_config", refuse)
    with pytest.raises(UserError, match=r"404.*hf download no/model --local-dir FOLDER.*its path"):
        find_format("no/model")


def test_unknown_dtype():
    assert parse_dtype(torch.bfloat16) == torch.bfloat16
    with pytest.raises(UserError, match="float16"):
        parse_dtype("float64")


def test_parts_come_from_diffusers_and_transformers_alone(copied, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "strange.py").write_text("raise SystemExit('imported')")
    index = json.loads((copied / "model_index.json").read_text())
    index["vae"] = ["strange", "AutoencoderKL"]
    (copied / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        UserError, match=r"model_index\.json takes its vae from the module 'strange'"
    ):
        DiffusionPrior.from_pretrained(copied)


def test_hub_model_without_safetensors_names_the_options(monkeypatch):
    given = {}

    def refuse(*args, **kwargs):
        given.update(kwargs)
        raise OSError(
            "Could not find the necessary `safetensors` weights in {'a.bin'} (variant=None)"
        )

    monkeypatch.setattr(diffusers.DiTPipeline, "from_pretrained", refuse)
    with pytest.raises(UserError, match=r"prior\.init_args\.variant, e\.g\. fp16; pickles are not"):
        open_pipeline("somebody/something", torch.float32)
    assert given["use_safetensors"] is True
