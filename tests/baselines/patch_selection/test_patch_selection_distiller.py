import pytest
import torch
from tiny_pipelines import build_dit, build_stable_diffusion
from two_ranks import distill_on_two_ranks

from baselines.patch_scores import DiffusionScore, TeacherScore
from baselines.patch_selection import PatchSelection
from baselines.rded import RDED
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.priors import DiffusionPrior, StableDiffusionPrior
from ddoq.selection.patches import best_boxes, cut_patches


@pytest.fixture
def prior():
    return DiffusionPrior(build_dit(classes=3))


def attached(data, prior=None, teacher=None, **changes):
    settings = {"ipc": 2, "crops": 3, "levels": (0.5,), "batch_size": 5}
    method = PatchSelection(**(settings | changes))
    method.attach(data, prior=prior, teacher=teacher)
    return method


def shards(method):
    return [method.distill(item) for item in method.work_items(method.data)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": "difusion"}, "Unknown score 'difusion'. Did you mean 'diffusion'"),
        ({"features": "pixels"}, "Unknown features 'pixels'. Did you mean 'pixel'"),
        ({"levels": ()}, "levels must list at least one"),
        ({"levels": (0.5, 0.0)}, r"levels must be in \(0, 1\], not 0.0"),
        ({"levels": (1.5,)}, r"levels must be in \(0, 1\], not 1.5"),
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"clusters": 0}, r"clusters must be in \[1, 12\], not 0"),
        ({"clusters": 6, "pool": 5}, r"clusters must be in \[1, 5\], not 6"),
        ({"ipc": 13}, "needs 13 patches, one an image, but class 'class 0' of held has only 12"),
    ],
)
def test_wrong_settings_are_refused(make_data, prior, changes, message):
    with pytest.raises(UserError, match=message):
        attached(make_data(), prior, **changes)


def test_parts_that_do_not_fit_are_refused(make_data, colour_teacher, prior):
    data = make_data()
    with pytest.raises(UserError, match="patch-selection needs a prior"):
        attached(data)
    with pytest.raises(UserError, match=r"prior DiffusionPrior knows 5 classes, but held has 3"):
        attached(data, DiffusionPrior(build_dit()))
    with pytest.raises(UserError, match="patch-selection needs a teacher"):
        attached(data, prior, score="teacher")
    with pytest.raises(UserError, match="knows 2 classes"):
        attached(data, prior, colour_teacher(make_data(num_classes=2)), score="teacher")


@pytest.mark.parametrize(
    ("score", "features", "needs"),
    [
        ("diffusion", "latent", (True, False)),
        ("diffusion", "pixel", (True, False)),
        ("teacher", "latent", (True, True)),
        ("teacher", "pixel", (False, True)),
    ],
)
def test_it_needs_what_it_uses(score, features, needs):
    method = PatchSelection(1, score=score, features=features)
    assert (method.needs_prior, method.needs_teacher) == needs


def test_both_scores_are_scores_of_patches(make_data, colour_teacher, prior):
    data = make_data()
    method = attached(data, prior, draws=2)
    score = method.patch_score(1)
    assert isinstance(score, DiffusionScore)
    assert (score.seed, score.levels, score.draws, score.batch_size) == (0, (0.5,), 2, 5)
    other = attached(data, None, colour_teacher(data), score="teacher", features="pixel")
    assert isinstance(other.patch_score(1), TeacherScore)


@pytest.mark.parametrize("features", ["latent", "pixel"])
def test_one_patch_of_each_cluster(make_data, pooling_prior, features):
    """Three shades of gray, of which the prior recognises the class in the darkest."""
    data = make_data(num_classes=1, per_class=12)
    shades = torch.tensor([20, 120, 220]).repeat(4)
    data.train.images = (data.train.images // 32 + shades.reshape(-1, 1, 1, 1)).to(torch.uint8)
    prior = pooling_prior(num_classes=1)
    prior.predict_noise = lambda latents, noise, level, ids=None: (
        noise + (1 if ids is None else latents)
    )
    for clusters, expected in ((None, [0, 1, 2]), (1, [0, 0, 0])):
        (shard,) = shards(attached(data, prior, ipc=3, features=features, clusters=clusters))
        means = shard.images.float().mean((1, 2, 3)).sort().values
        assert (means / 100).int().tolist() == expected
        assert int(shard.images[0].float().mean() / 100) == 0  # the best of all comes first


def test_the_best_of_a_cluster_is_kept(make_data, prior):
    data = make_data()
    method = attached(data, prior, ipc=2, features="pixel")
    proposals = method.propose(0)
    boxes, scores = best_boxes(proposals.boxes, method.patch_score(0).score(proposals))
    patches = cut_patches(proposals.images, boxes, 8)
    chosen = method.choose(patches, scores, 2, 0)
    assert int(chosen[0]) == int(scores.argmin())
    assert shards(method)[0].info["indices"] == [[int(i)] for i in proposals.positions[chosen]]


def test_one_cluster_and_a_teacher_are_rded(make_data, colour_teacher):
    data = make_data()
    teacher = colour_teacher(data)
    settings = {"ipc": 2, "crops": 3, "factor": 2, "crop_scale": (0.08, 1.0)}
    method = attached(
        data, None, teacher, score="teacher", features="pixel", clusters=1, **settings
    )
    rded = RDED(**settings)
    rded.attach(data, teacher=teacher)
    for ours, theirs in zip(shards(method), shards(rded), strict=True):
        assert torch.equal(ours.images, theirs.images)


def test_the_same_bits_in_any_batches_after_a_kill_and_on_two_ranks(make_data, trainer, tmp_path):
    data = make_data(num_classes=2, per_class=6)
    prior = DiffusionPrior(build_dit(classes=2))

    def make(**changes):
        return attached(data, prior, **changes)

    whole, _ = make().run(trainer, tmp_path / "whole")
    assert whole.metadata["encoded_at"] == 8
    for size in (1, 64):
        others = torch.cat([shard.images for shard in shards(make(batch_size=size))])
        assert torch.equal(others, whole.images)
    killed = make()
    scores = killed.patch_score
    killed.patch_score = lambda label: scores(label) if label < 1 else pytest.fail("killed")
    with pytest.raises(pytest.fail.Exception):
        killed.run(trainer, tmp_path / "killed")
    assert make().run(trainer, tmp_path / "killed")[0].fingerprint == whole.fingerprint
    distill_on_two_ranks(make, tmp_path / "two")
    (folder,) = (tmp_path / "two" / "distilled").glob("patch-selection-*")
    assert DistilledSet.load(folder).fingerprint == whole.fingerprint


def test_stable_diffusion_scores_at_its_own_size(make_data, tmp_path):
    data = make_data(num_classes=2)
    pipeline = build_stable_diffusion(tmp_path / "tokenizer")
    pipeline.vae.register_to_config(scaling_factor=0.7)
    method = attached(data, StableDiffusionPrior(pipeline, ["a cat", "a dog"], "cartoon"), factor=2)
    for shard in shards(method):
        assert shard.images.shape == (2, 3, 8, 8)
        assert len(shard.extras["scores"].unique()) == 8


def test_plan_counts_every_pass(make_data, colour_teacher, prior):
    data = make_data()
    sizes, parts = Sizes.of(data), Parts(prior.networks())
    method = attached(data, prior, levels=(0.3, 0.6), draws=2, pool=10)
    stages = {stage.name: stage for stage in method.workload(sizes, parts)}
    assert list(stages) == ["encode", "score", "features", "cluster"]
    passes = [stages[name].passes for name in ("encode", "score", "features")]
    assert passes == [30, 30 * 2 * 2 * 2, 30]
    assert stages["cluster"].files == {"images": 3 * 2 * 3 * 8 * 8}
    assert method.workload(sizes, Parts()) is None
    teacher = colour_teacher(data)
    method = attached(data, None, teacher, score="teacher", features="pixel", pool=10)
    stages = method.workload(sizes, Parts(None, teacher.network))
    assert [(stage.name, stage.passes) for stage in stages] == [("score", 90), ("cluster", 0)]
