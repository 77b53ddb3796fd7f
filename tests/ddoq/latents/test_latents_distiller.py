import shutil

import pytest
import torch
from latent_runs import distil, forbid, latent_files

from baselines.d4m import D4M
from baselines.kmeans_selection import KMeansSelection
from ddoq.ddoq import DDOQ
from ddoq.distillation.shard import Shard
from ddoq.latents.cache import encode_class

CPU = torch.device("cpu")


def test_any_budget_quantiser_and_method_starts_from_it(
    coloured_noise, pooling_prior, trainer, tmp_path
):
    data, prior = coloured_noise(per_class=60), pooling_prior()
    distil(DDOQ(2), data, prior, trainer, tmp_path)
    assert len(latent_files(tmp_path)) == 3
    read = data.train.load
    forbid(prior, "encode")
    forbid(data.train, "load")
    for ipc in (1, 10, 50):
        assert len(distil(DDOQ(ipc), data, prior, trainer, tmp_path)) == 3 * ipc
    distil(DDOQ(2, weight_power=0.5), data, prior, trainer, tmp_path)
    distil(D4M(3, batch_size=5), data, prior, trainer, tmp_path)
    data.train.load = read  # it keeps real images, so it must read those
    distil(KMeansSelection(4), data, prior, trainer, tmp_path)
    assert len(latent_files(tmp_path)) == 3


def test_without_the_cache_the_bits_are_the_same(parts, trainer, tmp_path):
    for number, make in enumerate((DDOQ, KMeansSelection)):
        roots = [tmp_path / f"{number}-{name}" for name in ("fresh", "off")]
        kept = distil(make(3), *parts, trainer, roots[0])
        for path in (roots[0] / "shards", roots[0] / "distilled"):
            shutil.rmtree(path)
        read = distil(make(3), *parts, trainer, roots[0])
        off = distil(make(3, latent_cache=False), *parts, trainer, roots[1])
        assert kept.fingerprint == read.fingerprint == off.fingerprint
        for name in ("settings", "context", "statistics"):
            assert read.metadata[name].keys() == off.metadata[name].keys()
        for name in ("settings", "context"):
            assert kept.metadata[name] == off.metadata[name]
        assert "latent_cache" not in off.metadata["settings"]
        assert not (roots[1] / "latents").exists()


def test_methods_off_the_trainer_encode_by_themselves(parts):
    data, prior = parts
    distiller = DDOQ(2)
    distiller.attach(data, prior=prior)
    points, info = distiller.class_points(0)
    assert points.dtype == torch.float32
    assert torch.equal(
        points, encode_class(prior, data, 0, batch_size=64, device=CPU).float().flatten(1)
    )
    assert info["encoding_reused"] is False


def test_only_what_is_missing_is_encoded(parts, trainer, tmp_path, capsys):
    data, prior = parts
    distil(DDOQ(2), data, prior, trainer, tmp_path)
    latent_files(tmp_path)[1].unlink()
    loaded, read = [], data.train.load
    data.train.load = lambda indices: loaded.extend(indices) or read(indices)
    distil(DDOQ(3), data, prior, trainer, tmp_path)
    assert loaded == data.train.of_class(1).tolist()
    assert "encoding 20 images of 1 of 3 classes" in capsys.readouterr().out


def test_size_and_place_are_said_before_and_the_sum_after(parts, trainer, tmp_path, capsys):
    prior = parts[1]
    distil(DDOQ(2), *parts, trainer, tmp_path)
    said = capsys.readouterr().out
    folder = latent_files(tmp_path)[0].parent
    # 60 images of 3 x 2 x 2 values of two bytes are 1440 bytes.
    assert prior.latent_shape == (3, 2, 2)
    told = "latents: encoding 60 images of 3 of 3 classes once at 8 pixels, 0.0 MB in fp16, to"
    assert f"{told} {folder}" in said
    assert "latents: 60 images encoded in" in said
    distil(DDOQ(3), *parts, trainer, tmp_path)
    assert f"latents: reused, in {folder}" in capsys.readouterr().out
    distil(DDOQ(3), *parts, trainer, tmp_path)
    assert "latents:" not in capsys.readouterr().out  # the whole set is there


def test_a_run_that_is_killed_keeps_the_classes_it_made(parts, trainer, tmp_path):
    data, prior = parts
    encode = prior.encode

    def dies(images, *, generator=None):
        if len(latent_files(tmp_path)) == 2:
            raise RuntimeError("killed")
        return encode(images)

    prior.encode = dies
    with pytest.raises(RuntimeError, match="killed"):
        distil(DDOQ(2), data, prior, trainer, tmp_path)
    assert [path.stem for path in latent_files(tmp_path)] == ["class-0000", "class-0001"]
    prior.encode = encode
    assert len(distil(DDOQ(2), data, prior, trainer, tmp_path)) == 6


def test_only_who_starts_from_latents_has_their_format_in_its_keys():
    assert DDOQ(2).formats() == D4M(2).formats() == KMeansSelection(2).formats()
    assert DDOQ(2).formats() == {"latents": "float16"}
    assert KMeansSelection(2, features="pixel").formats() == {}
    assert D4M(2).shard_settings() == DDOQ(2, latent_cache=False).shard_settings()


def test_encoding_counts_in_the_cost_of_those_who_reuse_it(parts, trainer, tmp_path):
    first, second = DDOQ(2), DDOQ(3)
    costs = [
        distil(each, *parts, trainer, tmp_path).metadata["cost"]["seconds"]
        for each in (first, second)
    ]
    infos = [
        Shard.load(path)
        for folder in (tmp_path / "shards").iterdir()
        for path in folder.glob("*.safetensors")
    ]
    for distiller, cost in zip((first, second), costs, strict=True):
        mine = [(s, r) for s, r in infos if len(s.labels) == distiller.ipc]
        own = sum(record["seconds"] for _, record in mine)
        encoding = sum(shard.info["encoding_seconds"] for shard, _ in mine)
        assert encoding > 0
        reused = distiller is second
        assert cost == pytest.approx(own + encoding * reused)
        assert all(shard.info["encoding_reused"] is reused for shard, _ in mine)
