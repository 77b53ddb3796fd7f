import json
import re
import resource
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from latent_runs import distil, forbid, latent_files
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from baselines.kmeans_selection import KMeansSelection
from ddoq.data import ImageFolderImages
from ddoq.ddoq import DDOQ
from ddoq.errors import UserError
from ddoq.latents.cache import LatentCache, encode_class
from ddoq.storage.files import load_tensors

CPU = torch.device("cpu")


def open_cache(root, prior, data, posterior="mode", seed=0):
    return LatentCache(root, prior, data, posterior=posterior, seed=seed)


def obtain(cache, label, batch_size=7):
    return cache.obtain(label, batch_size=batch_size, device=CPU)


def test_encoding_covers_the_class_in_order_and_rounds_to_fp16(parts):
    data, prior = parts
    latents = encode_class(prior, data, 1, batch_size=7, device=CPU)
    direct = prior.encode(data.train.images[data.train.labels == 1].float() / 255)
    assert latents.dtype == torch.float16
    assert torch.equal(latents, direct.half())
    assert not torch.equal(latents.float(), direct)  # the rounding is real


def test_draws_depend_on_seed_class_and_image_and_not_on_the_batch(parts):
    data, prior = parts
    data.train.images[:] = 128  # only draws tell images apart
    one, many = (
        encode_class(prior, data, 1, batch_size=size, device=CPU, sample_seed=3) for size in (1, 64)
    )
    assert torch.equal(one, many)
    assert len(one.flatten(1).unique(dim=0)) == len(one)
    for label, seed in ((2, 3), (1, 4)):
        other = encode_class(prior, data, label, batch_size=64, device=CPU, sample_seed=seed)
        assert not torch.equal(one, other)


@pytest.fixture
def photographs(tmp_path):
    """JPEGs of 64 x 80 pixels in two classes, read at 32."""
    draws = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = draws.integers(0, 256, (64, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")

    def read(size=32, **changes):
        data = ImageFolderImages(
            str(tmp_path / "photographs"), dataset_name="photographs", image_size=size, **changes
        )
        data.setup()
        return data

    return read


@pytest.mark.parametrize("changes", [{}, {"cache_images": False}, {"limit_per_class": 2}])
def test_files_are_decoded_at_the_size_of_the_prior(photographs, pooling_prior, tmp_path, changes):
    data, prior = photographs(**changes), pooling_prior(image_size=64, num_classes=2)
    large = photographs(64, **changes)
    latents = encode_class(prior, data, 1, batch_size=2, device=CPU)
    originals = large.train.load(large.train.of_class(1).tolist())
    assert originals.shape[-1] == 64
    assert torch.equal(latents, prior.encode(originals.float() / 255).half())
    copies = data.train.load(data.train.of_class(1).tolist())
    assert copies.shape[-1] == 32
    enlarged = tv.resize(copies.float() / 255, [64, 64], antialias=True)
    assert not torch.equal(latents, prior.encode(enlarged).half())
    cache = open_cache(tmp_path, prior, data)
    assert torch.equal(obtain(cache, 1, batch_size=2).values, latents)
    assert load_tensors(cache.path(1))[1]["encoded_at"] == 64
    assert json.loads((cache.folder / "latents.json").read_text())["encoded_at"] == 64


def test_images_of_one_size_keep_it_and_the_prior_resizes(coloured_noise, pooling_prior, tmp_path):
    data = coloured_noise(image_size=8)
    sizes = []

    prior = pooling_prior(16)
    encode = prior.encode

    def resizing(images, *, generator=None):
        sizes.append(images.shape[-1])
        return encode(tv.resize(images, [16, 16], antialias=True))

    prior.encode = resizing
    cache = open_cache(tmp_path, prior, data)
    assert obtain(cache, 0).values.shape == (20, 3, 4, 4)
    assert set(sizes) == {8}
    assert load_tensors(cache.path(0))[1]["encoded_at"] == 8


def test_sets_say_at_which_size_was_encoded_and_are_keyed_by_it(
    photographs, pooling_prior, trainer, tmp_path
):
    same = distil(DDOQ(2), photographs(64), pooling_prior(64, 2), trainer, tmp_path / "same")
    distiller = DDOQ(2)
    large = distil(distiller, photographs(), pooling_prior(64, 2), trainer, tmp_path / "large")
    assert same.metadata["encoded_at"] == large.metadata["encoded_at"] == 64
    assert distiller.formats()["encoded_at"] == 64
    for method, expected in (
        (DDOQ(2), None),
        (KMeansSelection(2), None),
        (KMeansSelection(2, features="pixel"), None),
    ):
        method.attach(photographs(64), prior=pooling_prior(64, 2))
        assert method.formats().get("encoded_at") is expected
    method.attach(photographs(), prior=pooling_prior(64, 2))
    assert "encoded_at" not in {**method.formats(), **method.facts()}  # pixels need no encoder
    method = KMeansSelection(2)
    method.attach(photographs(), prior=pooling_prior(64, 2))
    assert method.formats()["encoded_at"] == method.facts()["encoded_at"] == 64


def test_second_time_nothing_is_encoded_and_the_bits_are_the_same(parts, tmp_path):
    data, prior = parts
    first = obtain(open_cache(tmp_path, prior, data), 2)
    forbid(prior, "encode")
    forbid(data.train, "load")
    again = obtain(open_cache(tmp_path, prior, data), 2)
    assert torch.equal(first.values, again.values)
    assert (first.reused, again.reused) == (False, True)
    assert again.seconds == first.seconds > 0


def test_progress_is_printed_now_and_then(parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    cache = open_cache(tmp_path, parts[1], parts[0])
    obtain(open_cache(tmp_path, parts[1], parts[0]), 2, batch_size=20)  # by another process
    capsys.readouterr()
    for label in range(2):
        obtain(cache, label, batch_size=10)
    lines = capsys.readouterr().out.splitlines()
    # In batches of ten, 20 of 60 images done by the other; at the end there is nothing to wait for.
    assert [line.split(" images")[0] for line in lines] == [
        f"latents: {done} of 60" for done in (30, 40, 50)
    ]
    assert all("images a second" in line and "to go" in line for line in lines)


def test_the_file_says_what_it_holds(parts, tmp_path):
    data, prior = parts
    cache = open_cache(tmp_path, prior, data, posterior="sample", seed=5)
    made = obtain(cache, 1)
    tensors, record = load_tensors(cache.path(1))
    assert cache.path(1).name == "class-0001.safetensors"
    assert torch.equal(tensors["latents"], made.values)
    assert torch.equal(tensors["positions"], data.train.of_class(1))
    assert tensors["labels"].tolist() == [1] * 20
    assert (record["class"], record["posterior"], record["seed"]) == ("colour 1", "sample", 5)
    about = json.loads((cache.folder / "latents.json").read_text())
    assert about["dataset"]["name"] == "coloured-noise"
    assert about["encoder"] == prior.encoder_fingerprint


def test_key_follows_all_that_decides_latents_and_nothing_else(
    coloured_noise, pooling_prior, tmp_path
):
    data, prior = coloured_noise(), pooling_prior()

    def key(data=data, prior=prior, **changes):
        return open_cache(tmp_path, prior, data, **changes).folder

    other_prior = pooling_prior()
    other_prior.fingerprint = "other"
    keys = [
        key(),
        key(data=coloured_noise(limit_per_class=5)),
        key(prior=other_prior),
        key(posterior="sample"),
        key(posterior="sample", seed=1),
    ]
    assert len(set(keys)) == len(keys)
    assert key(seed=1) == key()  # the mode draws nothing


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_corrupt_file_is_set_aside_and_encoded_again(parts, tmp_path, capsys, damage):
    data, prior, *_ = parts
    first = obtain(open_cache(tmp_path, prior, data), 0)
    (path,) = latent_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    damaged = bytes({"flip": content, "cut": content[:100], "empty": b""}[damage])
    path.write_bytes(damaged)
    again = obtain(open_cache(tmp_path, prior, data), 0)
    assert not again.reused
    assert torch.equal(again.values, first.values)
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == damaged
    assert f"{path} is corrupt" in capsys.readouterr().err
    assert obtain(open_cache(tmp_path, prior, data), 0).reused


def test_a_file_of_other_images_is_set_aside(parts, tmp_path, capsys):
    cache = open_cache(tmp_path, parts[1], parts[0])
    obtain(cache, 0)
    shutil.copy(cache.path(0), cache.path(1))
    assert not obtain(cache, 1).reused
    error = capsys.readouterr().err
    assert re.search(r"class-0001.*does not fit: class 'colour 1'.*'colour 0'.*set aside", error)
    assert obtain(cache, 1).reused


def test_a_file_of_another_shape_is_set_aside(parts, pooling_prior, tmp_path, capsys):
    data, prior = parts
    cache = open_cache(tmp_path, prior, data)
    obtain(cache, 0)
    finer = open_cache(tmp_path, pooling_prior(factor=2), data)
    finer.key = cache.key
    assert tuple(obtain(finer, 0).values.shape[1:]) == (3, 4, 4)
    error = capsys.readouterr().err
    assert "latents (3, 4, 4), the file holds torch.float16 (20, 3, 2, 2)" in error


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (
            1e6,
            r"prior sd-broken .*class 'colour 0' reach .*e\+05, beyond fp16's 65504.*scaling_factor",
        ),
        (
            float("nan"),
            r"prior sd-broken .*class 'colour 0' are not finite.*prior\.init_args\.dtype",
        ),
        (float("inf"), r"not finite"),
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_what_fp16_cannot_hold_is_refused(parts, trainer, tmp_path, factor, words, kept):
    data, prior = parts
    prior.origin = "sd-broken"
    encode = prior.encode
    prior.encode = lambda images, *, generator=None: encode(images) * factor
    with pytest.raises(UserError, match=words):
        distil(DDOQ(2, latent_cache=kept), data, prior, trainer, tmp_path)
    assert not (tmp_path / "latents").exists() or not latent_files(tmp_path)


def test_folder_that_cannot_be_written(parts, trainer, tmp_path):
    (tmp_path / "latents").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written.*--output.*latent_cache false"):
        distil(DDOQ(2), *parts, trainer, tmp_path)


def test_full_disk_is_noticed_before_the_work(parts, trainer, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("ddoq.storage.disk.shutil.disk_usage", lambda path: usage)
    forbid(parts[1], "encode")
    with pytest.raises(UserError, match=r"needs 0\.0 MB.*0\.0 MB free.*latent_cache false"):
        distil(DDOQ(2), *parts, trainer, tmp_path)


def test_disk_that_fills_up_leaves_no_half_file(coloured_noise, pooling_prior, tmp_path):
    data = coloured_noise(per_class=200, image_size=32)
    cache = open_cache(tmp_path, pooling_prior(image_size=32, factor=1), data)  # 1.2 MB a class
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, hard))
    try:
        with pytest.raises(UserError, match=r"class-0000\.safetensors cannot be written.*space"):
            obtain(cache, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [
        path for path in cache.folder.iterdir() if "class" in path.name and ".lock" not in path.name
    ] == []
    assert not obtain(cache, 0).reused


def test_two_who_need_the_same_class_encode_it_once(parts, tmp_path):
    data, prior = parts
    encode, asked = prior.encode, []

    def slow(images, *, generator=None):
        asked.append(len(images))
        time.sleep(0.2)
        return encode(images)

    prior.encode = slow
    made = []
    threads = [
        threading.Thread(
            target=lambda: made.append(obtain(open_cache(tmp_path, prior, data), 0, batch_size=20))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [20]
    assert sorted(item.reused for item in made) == [False, True]
    assert torch.equal(made[0].values, made[1].values)
