import pytest
import torch
import torch.nn.functional as F
from tiny_pipelines import build_dit

from baselines.patch_scores import DiffusionScore, Proposals, TeacherScore
from ddoq.finite import NotFiniteError
from ddoq.images import to_float
from ddoq.priors import DiffusionPrior
from ddoq.selection.patches import propose_boxes

CPU = torch.device("cpu")


def proposals(data, label=1, numbers=(4, 0, 2), count=5, scale=(0.08, 1.0), side=None):
    positions = data.train.of_class(label)[list(numbers)]
    size = (data.image_size, data.image_size)
    boxes = propose_boxes(numbers, count, size, scale, seed=0, label=label)
    images = data.train.load(positions.tolist())
    side = data.image_size if side is None else side
    return Proposals(label, data.train, positions, torch.tensor(numbers), images, boxes, side)


def whole(data, **changes):
    return proposals(data, count=1, scale=(1.0, 1.0), **changes)


@pytest.fixture
def prior():
    return DiffusionPrior(build_dit(classes=3))


def diffusion(prior, **changes):
    settings = {"seed": 3, "levels": (0.4, 0.8), "draws": 2, "batch_size": 64}
    return DiffusionScore(prior, CPU, **(settings | changes))


def test_a_single_crop_of_full_size_scores_the_entropy_of_its_image(make_data, colour_teacher):
    data = make_data()
    teacher, crops = colour_teacher(data), whole(data)
    logits = teacher(to_float(crops.images))
    expected = F.cross_entropy(logits, torch.tensor([1, 1, 1]), reduction="none")
    scores = TeacherScore(teacher, CPU).score(crops)
    torch.testing.assert_close(scores, expected[:, None])


def test_a_small_crop_stands_in_the_middle_of_the_mean_colour(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    teacher.mean = (0.1, 0.5, 0.9)
    patches = torch.rand(2, 3, 3, 3)
    framed = TeacherScore(teacher, CPU).framed(patches)
    assert framed.shape == (2, 3, 8, 8)
    assert torch.equal(framed[:, :, 2:5, 2:5], patches)  # of 5 pixels, 2 above and 3 below
    framed[:, :, 2:5, 2:5] = torch.nan
    for channel, mean in enumerate(teacher.mean):
        around = framed[:, channel]
        assert torch.equal(around[~around.isnan()], torch.full((2 * (64 - 9),), mean))


def test_a_teachers_scores_depend_on_image_and_box_alone(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    scores = TeacherScore(teacher, CPU).score(proposals(data))
    assert scores.shape == (3, 5)
    assert torch.equal(TeacherScore(teacher, CPU, batch_size=2).score(proposals(data)), scores)
    alone = TeacherScore(teacher, CPU).score(proposals(data, numbers=(2,)))
    assert torch.equal(alone, scores[2:])


def test_answers_that_are_no_numbers_are_refused(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    teacher.network[-1].bias[0] = torch.nan
    with pytest.raises(NotFiniteError, match="gives logits that are not finite"):
        TeacherScore(teacher, CPU).score(proposals(data))


def losses(prior, latents, label, noise, level):
    """Denoising losses with and without the class, by the definition of diffusers' training scripts."""
    step = round(level * 999)
    times = torch.full((len(latents),), step)
    noisy = prior.scheduler.add_noise(latents, noise, times)
    for number in (label, 3):  # the null class follows the last one
        labels = torch.full((len(latents),), number)
        output = prior.transformer(noisy, timestep=times, class_labels=labels).sample
        yield F.mse_loss(output, noise, reduction="none").mean((1, 2, 3))


@torch.no_grad()
def test_the_map_averages_to_the_difference_of_the_denoising_losses(make_data, prior):
    data = make_data()
    score, crops = diffusion(prior), whole(data)
    latents = prior.encode(to_float(crops.images))
    expected = torch.zeros(3)
    for level in score.levels:
        for draw in range(score.draws):
            noise = score._noise(latents.shape[1:], 1, [4, 0, 2], level, draw)
            told, untold = losses(prior, latents, 1, noise, level)
            expected += (told - untold) / 4
    assert float(expected.abs().min()) > 1e-5
    maps = score.maps(latents, 1, [4, 0, 2])
    assert maps.shape == (3, 4, 4)
    torch.testing.assert_close(maps.mean((1, 2)), expected, atol=1e-6, rtol=1e-4)
    scores = score.score(crops)
    torch.testing.assert_close(scores[:, 0].float(), expected, atol=1e-6, rtol=1e-4)


def test_a_class_that_is_told_as_none_makes_a_map_of_zeros(make_data, prior):
    data = make_data()
    assert float(diffusion(prior).score(proposals(data)).abs().max()) > 1e-5
    prior.conditions = prior.null_conditions
    assert float(diffusion(prior).score(proposals(data)).abs().max()) == 0


def test_scores_of_a_prior_depend_on_image_box_and_seed_alone(make_data, prior):
    data = make_data()
    together = diffusion(prior).score(proposals(data))
    close = {"atol": 1e-6, "rtol": 1e-4}  # other batches round otherwise
    one_by_one = diffusion(prior, batch_size=1).score(proposals(data))
    torch.testing.assert_close(one_by_one, together, **close)
    alone = diffusion(prior).score(proposals(data, numbers=(2,)))
    torch.testing.assert_close(alone, together[2:], **close)
    assert not torch.allclose(diffusion(prior, seed=4).score(proposals(data)), together)


def test_every_level_and_draw_has_noise_of_its_own_and_counts_alike(make_data, prior):
    data = make_data()
    parts = [
        diffusion(prior, levels=(level,), draws=2).score(proposals(data)) for level in (0.4, 0.8)
    ]
    torch.testing.assert_close(diffusion(prior).score(proposals(data)), sum(parts) / 2)
    score = diffusion(prior)
    drawn = [score._noise((2, 4, 4), 1, [0], level, n) for level in (0.4, 0.8) for n in (0, 1)]
    assert len({str(noise.tolist()) for noise in drawn}) == 4


def test_whole_images_are_seen_at_the_size_of_the_prior(make_data, prior, monkeypatch):
    data = make_data(image_size=16)
    asked = []
    at_size = data.train.at_size
    monkeypatch.setattr(data.train, "at_size", lambda size: asked.append(size) or at_size(size))
    scores = diffusion(prior).score(proposals(data, side=8))
    assert asked == [8]
    assert scores.shape == (3, 5)
