import torch

from baselines.d4m import D4M
from ddoq.ddoq import DDOQ
from ddoq.latent_quantization import Quantizer


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
