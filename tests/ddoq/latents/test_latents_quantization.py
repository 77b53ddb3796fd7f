import math

import pytest
import torch

from ddoq.ddoq import DDOQ
from ddoq.errors import UserError
from ddoq.latents.quantization import Quantizer
from ddoq.priors.base import Sampling


def distil(distiller, data, prior, trainer, root):
    distiller.attach(data, prior=prior)
    return distiller.run(trainer, root)[0]


def test_posterior_sample_differs_from_the_mode_and_repeats(
    coloured_noise, pooling_prior, trainer, tmp_path
):
    data, prior = coloured_noise(), pooling_prior()
    mode = distil(DDOQ(2), data, prior, trainer, tmp_path / "a")
    drawn = distil(DDOQ(2, posterior="sample"), data, prior, trainer, tmp_path / "b")
    again = distil(DDOQ(2, posterior="sample"), data, prior, trainer, tmp_path / "c")
    assert drawn.fingerprint != mode.fingerprint
    assert drawn.fingerprint == again.fingerprint


def test_images_do_not_depend_on_the_batch_size(coloured_noise, pooling_prior, trainer, tmp_path):
    data, prior = coloured_noise(), pooling_prior()
    one = distil(DDOQ(4, batch_size=1), data, prior, trainer, tmp_path / "a")
    many = distil(DDOQ(4, batch_size=64), data, prior, trainer, tmp_path / "b")
    assert torch.equal(one.images, many.images)
    assert torch.equal(one.weights, many.weights)


def test_generation_says_how_far_it_is(
    coloured_noise, pooling_prior, trainer, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("ddoq.console.PAUSE", 0.0)
    distil(DDOQ(5, batch_size=2), coloured_noise(), pooling_prior(), trainer, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "ddoq, class" in line]
    assert [line.split(" images")[0] for line in lines] == [
        f"ddoq, class {label}: {done} of 5" for label in range(3) for done in (2, 4)
    ]


def test_statistics_satisfy_the_theory(coloured_noise, pooling_prior, trainer, tmp_path):
    distilled = distil(DDOQ(4), coloured_noise(), pooling_prior(), trainer, tmp_path)
    statistics = distilled.metadata["statistics"]
    assert statistics["w2_masses"] <= statistics["w2_uniform"]
    assert statistics["w2_masses"] <= math.sqrt(statistics["distortion"]) * (1 + 1e-6)
    assert 0 <= statistics["w2_reduction"] < 1


def test_more_images_are_closer_to_the_class(coloured_noise, pooling_prior, trainer, tmp_path):
    data, prior = coloured_noise(), pooling_prior()
    sets = [distil(DDOQ(k), data, prior, trainer, tmp_path) for k in (1, 4, 12)]
    distances = [item.metadata["statistics"]["w2_masses"] for item in sets]
    assert distances == sorted(distances, reverse=True)


def test_images_are_resized_to_the_dataset(coloured_noise, pooling_prior, trainer, tmp_path):
    class Larger(type(pooling_prior())):
        def encode(self, images, *, generator=None):
            return super().encode(images.repeat_interleave(2, 2).repeat_interleave(2, 3))

    distilled = distil(DDOQ(2), coloured_noise(), Larger(image_size=16), trainer, tmp_path)
    assert distilled.images.shape == (6, 3, 8, 8)


def test_sampling_reaches_the_prior(coloured_noise, pooling_prior, trainer, tmp_path):
    data, prior = coloured_noise(), pooling_prior()
    weak = distil(DDOQ(2, sampling=Sampling(strength=0.1)), data, prior, trainer, tmp_path)
    strong = distil(DDOQ(2, sampling=Sampling(strength=1.0)), data, prior, trainer, tmp_path)
    assert not torch.equal(weak.images, strong.images)


def test_more_centroids_than_images_are_refused(coloured_noise, pooling_prior):
    with pytest.raises(UserError, match=r"ipc is 6.*'colour 0'.*only 5"):
        DDOQ(6).attach(coloured_noise(limit_per_class=5), prior=pooling_prior())


def test_unknown_quantizer_gets_the_nearest_name():
    with pytest.raises(UserError, match="Did you mean 'lloyd'"):
        Quantizer(method="loyd")


@pytest.mark.parametrize("method", ["lloyd", "clvq", "d4m", "random", "medoid"])
def test_every_quantiser_distils(method, coloured_noise, pooling_prior, trainer, tmp_path):
    distiller = DDOQ(3, quantizer=Quantizer(method=method, km_expand=2))
    distilled = distil(distiller, coloured_noise(), pooling_prior(), trainer, tmp_path)
    assert distilled.ipc == 3
    assert distilled.weights.sum() == pytest.approx(9, rel=1e-5)


@pytest.mark.parametrize("name", ["restarts", "passes", "km_expand", "batch_size"])
def test_counts_of_the_quantizer_are_at_least_one(name):
    for value in (0, -1):
        with pytest.raises(UserError, match=rf"quantizer\.{name} must be at least 1.*{value}"):
            Quantizer(**{name: value})
