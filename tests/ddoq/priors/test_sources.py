"""Priors trained end to end on tiny random data: cached, deterministic, and openable by diffusers."""

import errno
import json
import os
import random
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline
from safetensors import SafetensorError
from tiny_pipelines import build_dit

from ddoq.data import load_registry
from ddoq.errors import UserError
from ddoq.priors import DiTConfig, PretrainedPrior, Sampling, TrainedPrior, VAEConfig, sources
from ddoq.seeding import generator_for
from ddoq.storage.disk import WriteError
from ddoq.teachers import TrainedTeacher

VAE = VAEConfig(channels=(8, 8), latent_channels=2, steps=20, batch_size=8)
DIT = DiTConfig(layers=1, heads=2, head_dim=8, steps=20, batch_size=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(sources, "train_vae", refuse)
    monkeypatch.setattr(sources, "train_dit", refuse)


@pytest.fixture
def trained(cache, make_random_data, quiet):
    return TrainedPrior(VAE, DIT).obtain(make_random_data(), cache, quiet)


def noise():
    return [generator_for(0, k) for k in range(2)]


def test_folder_is_whole_and_opens_in_diffusers(trained, cache, make_random_data):
    data = make_random_data()
    vae_folder, folder = TrainedPrior(VAE, DIT).folders(data, cache)
    assert (vae_folder / "vae" / "config.json").is_file()
    for name in ("reconstructions.png", "samples_noise.png", "samples_strength.png"):
        assert (folder / name).stat().st_size > 100
    record = json.loads((folder / "training.json").read_text())
    assert record["dit"]["config"]["steps"] == 20
    assert 0 < record["vae"]["test_mse"] < 1
    assert record["vae"]["test_psnr"] == pytest.approx(-10 * np.log10(record["vae"]["test_mse"]))
    assert record["vae"]["scaling_factor"] != 1.0
    pipeline = DiTPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    assert pipeline.get_label_ids(["class 2"]) == [2]
    pipeline.set_progress_bar_config(disable=True)
    # Without guidance: diffusers' pipeline takes 1000 for the null class whatever the model.
    settings = {"guidance_scale": 1.0, "num_inference_steps": 4}
    expected = pipeline([0, 2], generator=noise(), output_type="pt", **settings).images
    drawn = trained.sample(torch.tensor([0, 2]), generators=noise(), sampling=Sampling(**settings))
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)
    assert trained.num_classes == 3
    assert trained.latent_shape == (2, 4, 4)
    assert trained.image_size == 8


def test_encoded_training_set_has_unit_deviation(trained, make_random_data):
    data = make_random_data()
    latents = trained.encode(data.train.images / 255)
    assert float(latents.std()) == pytest.approx(1.0, abs=1e-3)


def test_second_call_trains_nothing(trained, cache, make_random_data, quiet, no_training, capsys):
    again = TrainedPrior(VAE, DIT).obtain(make_random_data(), cache, quiet)
    assert again.fingerprint == trained.fingerprint
    assert "reused" in capsys.readouterr().out


def test_autoencoder_is_kept_when_the_transformer_fails(
    trained, cache, make_random_data, quiet, monkeypatch
):
    monkeypatch.setattr(sources, "train_vae", None)  # a call would fail with a TypeError

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "train_dit", killed)
    other = DiTConfig(layers=2, heads=2, head_dim=8, steps=20, batch_size=8)
    source = TrainedPrior(VAE, other)
    with pytest.raises(KeyboardInterrupt):
        source.obtain(make_random_data(), cache, quiet)
    vae_folder, folder = source.folders(make_random_data(), cache)
    assert vae_folder.is_dir()
    assert not folder.exists()


def test_folders_follow_configuration_seed_and_data(cache, make_random_data):
    data, base = make_random_data(), TrainedPrior(VAE, DIT)
    other_vae = TrainedPrior(
        VAEConfig(channels=(8, 8), latent_channels=2, steps=21, batch_size=8), DIT
    )
    other_dit = TrainedPrior(VAE, DiTConfig())
    variants = [
        base.folders(data, cache),
        other_vae.folders(data, cache),
        other_dit.folders(data, cache),
        TrainedPrior(VAE, DIT, seed=1).folders(data, cache),
        base.folders(make_random_data(content=1), cache),
    ]
    assert (
        len({vae for vae, _ in variants}) == 4
    )  # a transformer's size leaves the autoencoder alone
    assert len({prior for _, prior in variants}) == 5


def test_features_and_their_weight_come_together():
    for vae, features, state in (
        (VAEConfig(feature_weight=0.1), None, "missing"),
        (VAE, TrainedTeacher(), "given"),
    ):
        with pytest.raises(
            UserError, match=rf"feature_weight is .* prior.features is {state}: give both"
        ):
            TrainedPrior(vae, DIT, features=features)


def test_training_is_deterministic_and_leaves_random_states_alone(
    trained, tmp_path, make_random_data, quiet
):
    torch.manual_seed(123)
    random.seed(123)
    np.random.seed(123)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    again = TrainedPrior(VAE, DIT).obtain(make_random_data(), tmp_path, quiet)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert again.fingerprint == trained.fingerprint
    other = TrainedPrior(VAE, DIT, seed=1).obtain(make_random_data(), tmp_path, quiet)
    assert other.fingerprint != trained.fingerprint


def test_image_size_that_does_not_divide(tmp_path, make_random_data, quiet):
    with pytest.raises(UserError, match="multiple of 4"):
        TrainedPrior(VAE, DIT).obtain(make_random_data(image_size=10), tmp_path, quiet)


def test_pretrained(trained, cache, make_random_data, quiet, tiny_folder, tmp_path):
    data = make_random_data()
    folder = TrainedPrior(VAE, DIT).folders(data, cache)[1]
    opened = PretrainedPrior(str(folder)).obtain(data, tmp_path, quiet)
    assert opened.fingerprint == trained.fingerprint
    with pytest.raises(UserError, match="5 classes, random-images has 3"):
        PretrainedPrior(str(tiny_folder)).obtain(data, tmp_path, quiet)
    part = PretrainedPrior(str(tiny_folder), "bfloat16", "DDPMScheduler", [4, 2, 0])
    prior = part.obtain(data, tmp_path, quiet)
    images = prior.sample(
        torch.tensor([2]), generators=[generator_for(0)], sampling=Sampling(num_inference_steps=2)
    )
    assert images.shape == (1, 3, 8, 8)
    with pytest.raises(UserError, match="dtype"):
        PretrainedPrior(str(tiny_folder), "float8")


def test_imagenet_finds_the_numbers_by_wordnet_id(tiny_folder, make_random_data, quiet, tmp_path):
    data = make_random_data(classes=10)
    data.classes = load_registry("imagewoof")
    build_dit(classes=1000).save_pretrained(tmp_path / "thousand")
    thousand = PretrainedPrior(str(tmp_path / "thousand"), classes="imagenet")
    prior = thousand.obtain(data, tmp_path, quiet)
    dogs = [155, 159, 162, 167, 182, 193, 207, 229, 258, 273]  # fast.ai's list among ImageNet-1K's
    assert prior.class_numbers.tolist() == dogs
    listed = PretrainedPrior(str(tmp_path / "thousand"), classes=dogs)
    assert listed.obtain(data, tmp_path, quiet).fingerprint == prior.fingerprint
    with pytest.raises(UserError, match=r"numbers of the DiT's classes, 0\.\.4: 155 is none"):
        PretrainedPrior(str(tiny_folder), classes="imagenet").obtain(data, tmp_path, quiet)
    with pytest.raises(UserError, match=r"3 of 3 classes are not among the 1000.*WordNet ids"):
        thousand.obtain(make_random_data(), tmp_path, quiet)
    with pytest.raises(UserError, match=r"1000 classes, random-images has 10.*prior\.classes: `im"):
        PretrainedPrior(str(tmp_path / "thousand")).obtain(data, tmp_path, quiet)


def test_compile_reaches_the_networks_of_either_source(trained, cache, make_random_data, quiet):
    data = make_random_data()
    folder = TrainedPrior(VAE, DIT).folders(data, cache)[1]
    images = torch.zeros(2, 3, 8, 8)
    for source in (
        TrainedPrior(VAE, DIT, compile=True),
        PretrainedPrior(str(folder), compile=True),
    ):
        prior = source.obtain(data, cache, quiet)
        assert prior.fingerprint == trained.fingerprint
        # This stance lets nothing be compiled, so that whatever would be compiled fails.
        with torch.compiler.set_stance("fail_on_recompile"):
            trained.encode(images)
            for call in (
                prior.encode,
                lambda _, prior=prior: prior.decode(torch.zeros(2, 2, 4, 4)),
            ):
                with pytest.raises(RuntimeError, match="fail_on_recompile"):
                    call(images)


@pytest.fixture
def own_cache(trained, cache, tmp_path):
    """A copy of the trained prior, to be damaged."""
    shutil.copytree(cache, tmp_path / "own")
    return tmp_path / "own"


def flip(path, position=-5):
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "part",
    [
        "transformer/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "vae/config.json",
        "training.json",
        "model_index.json",
    ],
)
def test_a_flipped_bit_in_any_file_sets_the_prior_aside_and_trains_it_again(
    part, own_cache, trained, make_random_data, quiet, monkeypatch, capsys
):
    data = make_random_data()
    _, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    monkeypatch.setattr(sources, "train_vae", pytest.fail)  # the autoencoder's own folder is whole
    flip(folder / part)
    again = TrainedPrior(VAE, DIT).obtain(data, own_cache, quiet)
    assert again.fingerprint == trained.fingerprint
    error = capsys.readouterr().err
    assert f"{folder / part} is corrupt" in error
    assert (folder.with_name(f"{folder.name}.damaged-1") / part).is_file()


def test_an_autoencoder_is_checked_before_a_transformer_is_trained_on_it(
    own_cache, trained, make_random_data, quiet, capsys
):
    data = make_random_data()
    vae_folder, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    shutil.rmtree(folder)
    flip(vae_folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert TrainedPrior(VAE, DIT).obtain(data, own_cache, quiet).fingerprint == trained.fingerprint
    assert f"set aside as {vae_folder}.damaged-1" in capsys.readouterr().err


def test_a_picture_that_is_missing_is_drawn_again(
    own_cache, trained, make_random_data, quiet, monkeypatch
):
    data = make_random_data()
    vae_folder, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    drawn = (folder / "reconstructions.png").read_bytes()
    shutil.rmtree(folder)
    (vae_folder / "reconstructions.png").unlink()
    monkeypatch.setattr(sources, "train_vae", pytest.fail)
    assert TrainedPrior(VAE, DIT).obtain(data, own_cache, quiet).fingerprint == trained.fingerprint
    assert (folder / "reconstructions.png").read_bytes() == drawn


def test_a_given_prior_of_the_suite_is_checked_and_one_of_others_is_read(
    own_cache, trained, make_random_data, quiet
):
    data = make_random_data()
    _, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    given = PretrainedPrior(str(folder))
    assert given.obtain(data, own_cache, quiet).fingerprint == trained.fingerprint
    flip(weights)
    with pytest.raises(UserError, match=r"pytorch_model\.safetensors is corrupt.*ddoq-bench prior"):
        given.obtain(data, own_cache, quiet)
    assert weights.is_file()  # what is given is not renamed
    (folder / "manifest.json").unlink()
    assert given.obtain(data, own_cache, quiet).fingerprint != trained.fingerprint


def test_a_prior_from_before_manifests_is_read_with_a_line_that_says_so(
    own_cache, trained, make_random_data, quiet, no_training, capsys
):
    data = make_random_data()
    _, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    (folder / "manifest.json").unlink()
    assert TrainedPrior(VAE, DIT).obtain(data, own_cache, quiet).fingerprint == trained.fingerprint
    assert f"{folder} has no manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_while_the_prior_is_written_leaves_nothing_half(
    number, own_cache, make_random_data, quiet, monkeypatch
):
    data = make_random_data()
    _, folder = TrainedPrior(VAE, DIT).folders(data, own_cache)
    shutil.rmtree(folder)

    def refuse(place, *_):
        (place / "half").write_text("half")
        raise SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})")

    monkeypatch.setattr(sources, "save_pipeline", refuse)
    with pytest.raises(WriteError, match=rf"prior-\w+.* cannot be written \({os.strerror(number)}"):
        TrainedPrior(VAE, DIT).obtain(data, own_cache, quiet)
    left = [path.name for path in folder.parent.iterdir() if folder.name in path.name]
    assert not folder.exists()
    assert not [name for name in left if "unfinished" in name or name.endswith(".tmp")]
