import pytest
import torch
from latent_runs import distil, forbid

from benchmarks.decoding.measuring import draw_real, image_psnr
from ddoq.data import TensorSplit
from ddoq.data.splits import SubsetSplit
from ddoq.ddoq import DDOQ
from ddoq.measures import fit_gaussian, frechet_distance, show
from ddoq.priors.base import Sampling


def counting(prior):
    """Count the images that a prior generates."""
    calls, generate = [], prior.generate

    def counted(latents, *args, **kwargs):
        calls.append(len(latents))
        return generate(latents, *args, **kwargs)

    prior.generate = counted
    return calls


def test_real_images_come_first_and_are_what_the_teacher_knows(study_of):
    test, few, more, rebuilt, centroids, *noise = study_of(per_class=4).sets()
    assert (test.name, test.images, test.frechet) == ("real test images", 60, None)
    assert test.recognised == 1.0
    assert few.name == more.name == "real training images"
    assert (few.images, more.images) == (6, 12)  # as many as centroids, and as samples
    assert few.frechet > more.frechet > 0
    assert (rebuilt.name, rebuilt.images) == ("reconstructed test images", 12)
    assert rebuilt.frechet > 0
    assert centroids.images == 6
    assert centroids.recognised == 1.0  # the mean of a colour has that colour
    assert [item.name for item in noise] == [f"samples from noise, guidance {g}" for g in (1, 4)]
    assert all(item.recognised < 0.5 for item in noise)  # this prior makes them black


def test_reconstructions_are_not_measured_by_their_own_originals(study_of, pooling_prior):
    """A prior that loses nothing is then as far away as real images are, not nearer."""
    exact = study_of(pooling_prior(factor=1), per_class=3)
    _, few, real, rebuilt, *_ = exact.sets()
    assert real.images == rebuilt.images == 9
    assert exact.reconstruction == {"reconstruction_psnr": 120.0, "reconstructed": 9}
    drawn = draw_real(exact.data.test, 3, 3, exact.method.seed)
    others = sorted(set(range(60)) - set(drawn.positions.tolist()))
    seen = [
        show(exact.teacher, split)
        for split in (drawn, SubsetSplit(exact.data.test, torch.tensor(others)))
    ]
    gaussians = [fit_gaussian(item.features) for item in seen]
    assert rebuilt.frechet == pytest.approx(frechet_distance(*gaussians), rel=1e-6)
    assert few.images == 6
    all_of_them = list(study_of(pooling_prior(factor=1), per_class=20).sets())
    assert (all_of_them[3].images, all_of_them[3].frechet) == (60, None)


def test_a_setting_is_what_a_run_of_the_method_makes(study_of, pooling_prior, trainer, tmp_path):
    """The images are those of `fit` with that strength, which finds their shards made."""
    prior = pooling_prior()
    study = study_of(prior)
    (last,) = list(study.settings())[-1:]
    calls = counting(prior)
    sampling = Sampling(1.0, 4.0)
    made = distil(DDOQ(2, sampling=sampling), study.data, prior, trainer, tmp_path)
    assert calls == []
    seen = show(study.teacher, TensorSplit(made.images, made.labels))
    reference = fit_gaussian(show(study.teacher, study.data.test).features)
    assert last.recognised == seen.recognised
    assert last.frechet == pytest.approx(frechet_distance(fit_gaussian(seen.features), reference))
    assert (last.strength, last.guidance_scale, last.images) == (1.0, 4.0, 6)


def test_less_strength_is_nearer_to_the_plain_decode(study_of, capsys):
    weak, _, strong, _ = study_of().settings()
    assert weak.psnr > strong.psnr + 3
    told = capsys.readouterr().out
    assert told.count("latents: encoding") == 1
    assert "latents: reused" not in told  # four settings share them
    assert [f"decoding: {n} of 4: strength" in told for n in range(1, 5)] == [True] * 4


def test_a_killed_study_goes_on_where_it_was(study_of, pooling_prior):
    prior = pooling_prior()
    calls = counting(prior)
    list(study_of(prior).sets())
    begun = study_of(prior).settings()
    next(begun)
    next(begun)
    assert sum(calls) == 2 * 6 + 2 * 6  # two guidances from noise, two settings
    calls.clear()
    study = study_of(prior)
    list(study.sets())
    again = list(study.settings())
    assert sum(calls) == 2 * 6
    forbid(prior, "generate")
    assert list(study_of(prior).settings()) == again


def test_another_prior_has_images_of_its_own(study_of, pooling_prior):
    list(study_of().sets())
    other = pooling_prior()
    other.fingerprint = "another"
    calls = counting(other)
    list(study_of(other).sets())
    assert sum(calls) == 3 * 6


def test_damaged_samples_are_drawn_again(study_of, tmp_path, capsys):
    first = list(study_of().sets())
    for path in (tmp_path / "decoding").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    assert list(study_of().sets()) == first
    assert capsys.readouterr().err.count("damaged: ") == 2


def test_real_draws_are_of_every_class_and_grow(coloured_noise):
    data = coloured_noise()
    few, many = (draw_real(data.train, n, data.num_classes, seed=0) for n in (2, 5))
    assert few.labels.tolist() == [0, 0, 1, 1, 2, 2]
    kept = torch.tensor([0, 1, 5, 6, 10, 11])
    assert torch.equal(few.load(range(6)), many.load(kept.tolist()))
    other = draw_real(data.train, 5, data.num_classes, seed=1)
    assert not torch.equal(other.load(range(15)), many.load(range(15)))
    assert len(draw_real(data.train, 1000, data.num_classes, seed=0)) == len(data.train)


def test_psnr_of_equal_and_of_opposite_images():
    black = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert image_psnr(black, black) == 120.0
    assert image_psnr(black, black + 255) == pytest.approx(0.0, abs=1e-6)
