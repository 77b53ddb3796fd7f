import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from baselines.d4m import D4M
from benchmarks.cli import main
from ddoq.data import ImageFolderImages
from ddoq.ddoq import DDOQ
from ddoq.errors import UserError
from ddoq.latents.quantization import Quantizer
from ddoq.priors.base import Sampling


def distil(distiller, data, prior, trainer, root):
    distiller.attach(data, prior=prior)
    return distiller.run(trainer, root)[0]


def test_only_the_weight_column_differs_from_ddoq(coloured_noise, pooling_prior, trainer, tmp_path):
    data, prior = coloured_noise(), pooling_prior()
    ours = distil(DDOQ(4), data, prior, trainer, tmp_path / "a")
    theirs = distil(D4M(4), data, prior, trainer, tmp_path / "b")
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)
    assert torch.equal(theirs.weights, torch.ones(12))
    assert not torch.equal(ours.weights, theirs.weights)


def test_one_synthesis_serves_both(coloured_noise, pooling_prior, trainer, tmp_path, monkeypatch):
    data, prior = coloured_noise(), pooling_prior()
    ours = distil(DDOQ(4, weight_power=0.0), data, prior, trainer, tmp_path)
    monkeypatch.setattr(D4M, "distill", lambda *_: (_ for _ in ()).throw(AssertionError("redone")))
    theirs = distil(D4M(4), data, prior, trainer, tmp_path)
    assert ours.fingerprint == theirs.fingerprint


def test_official_settings_differ_from_the_shared_codebook(
    coloured_noise, pooling_prior, trainer, tmp_path
):
    data, prior = coloured_noise(), pooling_prior()
    shared = distil(D4M(4), data, prior, trainer, tmp_path)
    official = D4M(4, quantizer=Quantizer(method="d4m"), posterior="sample")
    assert distil(official, data, prior, trainer, tmp_path).fingerprint != shared.fingerprint


OFFICIAL = {
    "quantizer": Quantizer(method="d4m", km_expand=1),
    "sampling": Sampling(strength=0.7, guidance_scale=8.0, num_inference_steps=50),
    "posterior": "sample",
}


def test_faithful_sets_the_official_script():
    faithful = D4M(4, faithful=True)
    assert {name: getattr(faithful, name) for name in OFFICIAL} == OFFICIAL
    assert faithful.settings()["faithful"] is True
    assert D4M(4, **OFFICIAL, faithful=True).settings() == faithful.settings()


def test_settings_left_out_are_those_of_ddoq():
    plain = D4M(4)
    assert plain.settings()["quantizer"] == Quantizer()
    assert plain.settings()["sampling"] == Sampling()
    assert plain.settings()["posterior"] == "mode"
    assert "faithful" not in plain.settings()
    assert plain.shard_settings() == DDOQ(4).shard_settings()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"posterior": "mode"}, "posterior is mode; there posterior is sample"),
        (
            {"quantizer": Quantizer()},
            "quantizer.method is lloyd; there quantizer.method is d4m",
        ),
        ({"quantizer": Quantizer(method="d4m", km_expand=10)}, "quantizer.km_expand is 10"),
        (
            {"sampling": Sampling(strength=0.5)},
            "strength is 0.5, sampling.guidance_scale is 4.0; there sampling.strength is 0.7, sampling.guid",
        ),
    ],
)
def test_what_contradicts_faithful_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        D4M(4, faithful=True, **given)


def test_faithful_makes_the_official_codebook_and_says_what_the_prior_is_not(
    coloured_noise, pooling_prior, trainer, tmp_path, caplog
):
    data, prior = coloured_noise(), pooling_prior()
    with caplog.at_level(logging.WARNING):
        faithful = distil(D4M(4, faithful=True), data, prior, trainer, tmp_path)
    assert "encodes at 512 pixels" in caplog.text
    official = distil(D4M(4, **OFFICIAL), data, prior, trainer, tmp_path)
    # The prior has the size of the data, so that nothing is resized and all else is equal.
    assert prior.image_size == data.image_size
    assert faithful.fingerprint == official.fingerprint
    assert faithful.metadata["settings"]["faithful"] is True


def test_images_are_resized_as_pillow_does(coloured_noise, pooling_prior):
    distiller = D4M(4, faithful=True)
    data, prior = coloured_noise(), pooling_prior()
    distiller.attach(data, prior=prior)
    side = data.image_size
    pixels = torch.randint(
        256, (2, 3, 2 * side, 2 * side), generator=torch.Generator().manual_seed(0)
    )
    found = (distiller.resize(pixels / 255) * 255).round().to(torch.uint8)
    for image, resized in zip(pixels.to(torch.uint8), found, strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side))
        assert np.array_equal(resized.permute(1, 2, 0).numpy(), np.array(pillow))
    plain = D4M(4)
    plain.attach(data, prior=prior)
    assert (plain.resize(pixels / 255) * 255 - found).abs().max() > 3  # another filter


def test_shards_of_both_ways_to_resize_are_kept_apart():
    faithful, official = D4M(4, faithful=True), D4M(4, **OFFICIAL)
    assert faithful.shard_settings() != official.shard_settings()
    assert {k: v for k, v in faithful.shard_settings().items() if k != "resize"} == (
        official.shard_settings()
    )


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--model.init_args.quantizer.method=clvq", "method: clvq"),
        ("--model.init_args.sampling.strength=0.5", "strength: 0.5"),
        ("--model.init_args.faithful=true", "faithful: true"),
    ],
)
def test_fields_can_be_given_on_the_command_line(argument, words, capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "fit",
                "--config=configs/datasets/digits.yaml",
                "--config=configs/methods/d4m.yaml",
                argument,
                "--print_config",
            ]
        )
    assert words in capsys.readouterr().out


def test_a_faithful_d4m_keeps_the_sampling_that_it_insists_on():
    assert D4M.tiny({"sampling": None})["sampling"] == {"num_inference_steps": 4}
    changes = D4M.tiny({"ipc": 10, "faithful": True})
    assert "sampling" not in changes
    D4M(**changes, faithful=True)


def test_a_faithful_encoder_sees_stretched_originals(tmp_path, pooling_prior):
    for number, name in enumerate(("a", "b")):
        for split in ("train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            for k in range(2):
                pixels = np.arange(24 * 16 * 3).reshape(16, 24, 3) % 250 + number + k
                path = tmp_path / split / name / f"{k}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    data = ImageFolderImages(str(tmp_path), "toy", 8)
    data.setup()
    prior = pooling_prior(16, 2)
    shown, encode = [], prior.encode
    prior.encode = lambda images, **given: shown.append(images) or encode(images, **given)
    formats = {}
    for faithful in (False, True):
        distiller = D4M(1, faithful=faithful, latent_cache=False)
        distiller.attach(data, prior=prior)
        distiller.class_points(0)
        formats[faithful] = distiller.formats()
    whole = torch.from_numpy(np.array(Image.open(tmp_path / "train" / "a" / "0.png")))
    whole = whole.permute(2, 0, 1).float()
    stretched = F.interpolate(whole[None], (16, 16), mode="bilinear", antialias=True)[0]
    assert (shown[1][0] * 255 - stretched).abs().max() <= 0.51
    assert (shown[0][0] * 255 - whole[:, :, 4:20]).abs().max() < 1e-3  # the centre
    assert formats[True] == {**formats[False], "stretched": True}


def test_prompts_without_synonyms_are_named(coloured_noise, pooling_prior, caplog):
    data, prior = coloured_noise(), pooling_prior()
    prior.prompts = [f"a photo of a {name}" for name in data.classes.names]
    for faithful in (False, True):
        with caplog.at_level(logging.WARNING):
            D4M(2, faithful=faithful).attach(data, prior=prior)
        assert ("tells the prior the whole label" in caplog.text) is faithful
    caplog.clear()
    prior.prompts = data.classes.names  # no class of ImageNet, so that the label is its name
    D4M(2, faithful=True).attach(data, prior=prior)
    assert "whole label" not in caplog.text
