"""Weights as they lie in folders: plain, of a variant, in shards, or as pickles that stay shut."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from tiny_pipelines import build_stable_diffusion

from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior, PretrainedPrior, StableDiffusionPrior
from ddoq.priors.weight_files import list_variants

PARTS = ("vae", "unet", "text_encoder")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("weights")
    build_stable_diffusion(root / "tokenizer").save_pretrained(root / "pipeline")
    return root / "pipeline"


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def weights(folder: Path, part: str) -> Path:
    (path,) = (folder / part).glob("*.safetensors")
    return path


def rename(folder: Path, part: str, variant: str = "fp16") -> None:
    path = weights(folder, part)
    path.rename(path.with_suffix(f".{variant}.safetensors"))


def pickled(folder: Path, part: str) -> Path:
    """Write a part's weights as torch does, in the place of the safetensors."""
    path = weights(folder, part)
    names = {"model": "pytorch_model"}
    target = path.with_name(f"{names.get(path.stem, path.stem)}.bin")
    torch.save(load_file(path), target)
    path.unlink()
    return target


def opened(folder, **changes):
    return StableDiffusionPrior.from_pretrained(folder, prompts=["cat"], **changes)


@pytest.mark.parametrize(
    ("names", "safe", "pickles"),
    [
        (["diffusion_pytorch_model.safetensors", "config.json"], {""}, set()),
        (["model.fp16.safetensors", "pytorch_model.bin"], {"fp16"}, {""}),
        (["diffusion_pytorch_model-00001-of-00002.safetensors"], {""}, set()),
        (["diffusion_pytorch_model.fp16-00001-of-00002.safetensors"], {"fp16"}, set()),
        (["diffusion_pytorch_model-00001-of-00002.fp16.safetensors"], {"fp16"}, set()),
        (["diffusion_pytorch_model.non_ema.bin", "other.bin"], set(), {"non_ema"}),
    ],
)
def test_names_tell_kind_and_variant(tmp_path, names, safe, pickles):
    for name in names:
        (tmp_path / name).touch()
    assert list_variants(tmp_path) == {"safetensors": safe, "bin": pickles}


@pytest.mark.parametrize("part", PARTS)
def test_a_pickle_stays_shut_unless_it_is_allowed(whole, copied, part, monkeypatch):
    pickled(copied, part)
    loads = []
    monkeypatch.setattr(torch, "load", _noted(torch.load, loads))
    message = rf"{part} holds its weights as a pickle.*allow_pickle: true"
    with pytest.raises(UserError, match=message) as refusal:
        opened(copied)
    assert loads == []
    expected = opened(whole).fingerprint
    assert opened(copied, allow_pickle=True).fingerprint == expected
    assert loads
    exec(re.findall(r'python -c "(.+?)"', str(refusal.value))[0])  # noqa: S102 - the mend that it gives
    assert opened(copied).fingerprint == expected


def _noted(load, calls):
    def noted(*args, **kwargs):
        calls.append(args)
        return load(*args, **kwargs)

    return noted


def test_a_pickle_beside_safetensors_is_not_opened(whole, copied, monkeypatch):
    for part in PARTS:
        path = weights(copied, part)
        stem = {"model": "pytorch_model"}.get(path.stem, path.stem)
        path.with_name(f"{stem}.bin").write_bytes(b"no pickle at all")
    for allowed in (False, True):
        assert opened(copied, allow_pickle=allowed).fingerprint == opened(whole).fingerprint


def test_a_folder_of_a_variant_alone_names_the_option(whole, copied):
    for part in PARTS:
        rename(copied, part)
    with pytest.raises(
        UserError, match=r"vae holds weights of the variant fp16 alone.*variant: fp16"
    ):
        opened(copied)
    assert opened(copied, variant="fp16").fingerprint == opened(whole).fingerprint
    with pytest.raises(UserError, match="vae holds weights of the variant fp16 alone"):
        opened(copied, variant="bf16")


def test_a_part_without_the_variant_is_read_from_its_plain_file(whole, copied):
    rename(copied, "unet")
    with pytest.raises(UserError, match="unet holds weights of the variant fp16 alone"):
        opened(copied)
    assert opened(copied, variant="fp16").fingerprint == opened(whole).fingerprint
    with pytest.raises(UserError, match="has no weights of the variant 'fp16': leave"):
        opened(whole, variant="fp16")


def test_the_variant_is_what_is_read(copied):
    path = weights(copied, "unet")
    other = UNet2DConditionModel.from_pretrained(copied / "unet", low_cpu_mem_usage=False)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(copied / "unet", variant="fp16")
    assert path.with_suffix(".fp16.safetensors").is_file()
    plain, changed = opened(copied), opened(copied, variant="fp16")
    assert plain.fingerprint != changed.fingerprint


def test_shards_are_read(whole, copied):
    weights(copied, "unet").unlink()
    unet = UNet2DConditionModel.from_pretrained(whole / "unet", low_cpu_mem_usage=False)
    unet.save_pretrained(copied / "unet", max_shard_size="20KB")
    assert len(list((copied / "unet").glob("*-of-*.safetensors"))) > 1
    assert opened(copied).fingerprint == opened(whole).fingerprint


def test_the_source_takes_both_options(copied, tiny_folder, tmp_path, make_random_data, quiet):
    for part in PARTS:
        rename(copied, part)
    data = make_random_data(classes=3)
    prior = PretrainedPrior(str(copied), variant="fp16").obtain(data, tmp_path, quiet)
    assert prior.num_classes == 3
    dit = shutil.copytree(tiny_folder, tmp_path / "dit")
    pickled(dit, "transformer")
    data = make_random_data(classes=5)
    with pytest.raises(UserError, match=r"dit/transformer holds its weights as a pickle"):
        PretrainedPrior(str(dit)).obtain(data, tmp_path, quiet)
    prior = PretrainedPrior(str(dit), allow_pickle=True).obtain(data, tmp_path, quiet)
    assert prior.fingerprint == DiffusionPrior.from_pretrained(tiny_folder).fingerprint
