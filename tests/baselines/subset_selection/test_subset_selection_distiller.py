import pytest
import torch
from two_ranks import distill_on_two_ranks

from baselines.bilp import BiLP, DynamicPruning, LossRanking
from baselines.dc import DC
from baselines.dm import DM
from baselines.m3d import M3D
from baselines.mtt import MTT
from baselines.pdd import PDD
from baselines.random_selection import RandomSelection
from baselines.subset_selection import SubsetSelection
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.selection.importance import ImportanceSampler
from ddoq.selection.leverage import leverage_scores
from ddoq.trajectories import ExpertTrajectories

NETWORK = {"arch": "convnet2-w4", "batch_real": 6}
BASES = {
    "dm": lambda: DM(2, **NETWORK, iterations=3),
    "dc": lambda: DC(2, **NETWORK, iterations=2, loops=(2, 1)),
    "m3d": lambda: M3D(1, **NETWORK, iterations=2),
    "mtt": lambda: MTT(
        2,
        ExpertTrajectories("convnet2-w4", count=1, epochs=2),
        iterations=2,
        steps=1,
        expert_epochs=1,
        max_start_epoch=1,
        lr=1.0,
    ),
}


def subset(base, **changes) -> SubsetSelection:
    method = SubsetSelection(base, **({"arch": "convnet1-w4", "clusters": 3} | changes))
    method.checkpoint_seconds = 0
    return method


def run(method, data, trainer, root):
    method.attach(data)
    return method.run(trainer, root)[0]


def test_choosing_nothing_is_the_base_bit_for_bit(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    base = run(BASES["dm"](), data, trainer, tmp_path)
    same = run(subset(BASES["dm"](), starts=False, batches=False), data, trainer, tmp_path)
    assert same.fingerprint == base.fingerprint


@pytest.mark.parametrize("importance", ["leverage", "sensitivity"])
@pytest.mark.parametrize("name", ["dm", pytest.param("dc", marks=pytest.mark.slow)])
def test_starts_and_batches_are_drawn_by_importance(
    name, importance, coloured_noise, trainer, tmp_path
):
    data = coloured_noise()
    method = subset(BASES[name](), importance=importance)
    distilled = run(method, data, trainer, tmp_path)
    assert distilled.metadata["method"] == f"subset-{name}"
    real, pixels = method.base.start(1)
    assert isinstance(real.sampler, ImportanceSampler)
    scores = method.scores(data, 1)
    torch.testing.assert_close(real.sampler.probabilities, scores / scores.sum())
    drawn = method.base.drawn(real, 0, 1)
    torch.testing.assert_close(
        drawn.weights, 1 / (20 * real.sampler.probabilities[drawn.positions])
    )
    starts = real.sampler.first(20, 2, method.base.generator("init", 1))
    assert torch.equal(pixels.images, real.take(starts))
    other = run(
        subset(BASES[name](), importance=importance, batches=False), data, trainer, tmp_path
    )
    assert not torch.equal(other.images, distilled.images)


@pytest.mark.parametrize("name", ["m3d", pytest.param("mtt", marks=pytest.mark.slow)])
def test_starts_alone_serve_other_bases(name, coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    base = run(BASES[name](), data, trainer, tmp_path)
    started = run(subset(BASES[name](), batches=False), data, trainer, tmp_path)
    assert started.images.shape == base.images.shape
    assert not torch.equal(started.images, base.images)


def test_scores_are_those_of_random_features_of_the_class(coloured_noise):
    data = coloured_noise()
    method = subset(BASES["dm"]())
    method.attach(data)
    scores = method.scores(data, 2)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, leverage_scores(method._features(data, 2), 1.0))
    assert torch.equal(scores, subset_of(data).scores(data, 2))


def subset_of(data):
    method = subset(BASES["dm"]())
    method.attach(data)
    return method


def test_two_ranks_give_the_bits_of_one(coloured_noise, trainer, tmp_path):
    def make():
        return subset_of(coloured_noise())

    one, folder = make().run(trainer, tmp_path / "one")
    distill_on_two_ranks(make, tmp_path / "two")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert two.fingerprint == one.fingerprint


def test_it_nests(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    pruned = BiLP(BASES["dm"](), LossRanking("convnet2-w4", epochs=1), 0.5)
    method = PDD(subset(pruned), 2, networks=1, epochs=1)
    distilled = run(method, data, trainer, tmp_path)
    assert distilled.metadata["method"] == "pdd-subset-bilp-dm"
    assert distilled.stages.tolist() == [0, 1] * 3
    assert len(pruned.base.data.train) == 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: subset(BASES["mtt"]()), "that of MTT is not: set `batches: false`, or take DM"),
        (lambda: subset(BASES["m3d"]()), "that of M3D is not"),
        (lambda: subset(RandomSelection(2)), "and RandomSelection does not: take e.g. DM"),
        (lambda: subset(BASES["dm"](), importance="weight"), "Unknown importance 'weight'"),
        (lambda: subset(BASES["dm"](), ridge=0.0), "ridge must be above 0"),
        (lambda: subset(BASES["dm"](), clusters=0), "clusters must be at least 1"),
        (lambda: subset(BASES["dm"](), arch="convnot"), "No network is called 'convnot'"),
        (
            lambda: subset(BiLP(BASES["dm"](), LossRanking(), 0.5, dynamic=DynamicPruning())),
            "SubsetSelection and BiLP inside of it both choose",
        ),
    ],
)
def test_what_cannot_be_chosen_for_is_refused(coloured_noise, make, message):
    with pytest.raises(UserError, match=message):
        make().attach(coloured_noise())


def test_plan_counts_the_measuring(coloured_noise):
    method = subset_of(coloured_noise())
    measure, match = method.workload(Sizes.of(method.data), Parts())
    assert (measure.passes, match.passes) == (60, 3 * 3 * (6 + 2))
