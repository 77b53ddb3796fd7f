import pytest
import torch
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.bilp import BiLP, DynamicPruning, LossRanking
from baselines.dc import DC
from baselines.dm import DM
from baselines.m3d import M3D
from baselines.mtt import MTT
from baselines.random_selection import RandomSelection
from baselines.sre2l import SRe2L
from baselines.whole_dataset import WholeDataset
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.selection.loss_pruning import prune_by_loss, rank_losses
from ddoq.trajectories import ExpertTrajectories

BASES = {
    "dm": lambda ipc=2: DM(ipc, arch="convnet2-w4", iterations=4, batch_real=8),
    "dc": lambda ipc=2: DC(ipc, arch="convnet2-w4", iterations=2, loops=(2, 1), batch_real=8),
    "random": lambda ipc=2: RandomSelection(ipc),
}
DYNAMIC = DynamicPruning(low=0.2, high=0.2, interval=2)


def ranking(**changes) -> LossRanking:
    return LossRanking(**({"arch": "convnet2-w4", "epochs": 2, "batch_size": 16} | changes))


def bilp(base, keep=0.5, **changes) -> BiLP:
    method = BiLP(base, ranking(), keep, **changes)
    method.checkpoint_seconds = 0
    return method


def run(method, data, trainer, root):
    method.attach(data)
    return method.run(trainer, root)[0]


DC_SLOW = pytest.param("dc", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["dm", DC_SLOW, "random"])
def test_keeping_all_images_is_the_base_bit_for_bit(name, coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    base = run(BASES[name](), data, trainer, tmp_path)
    wrapped = run(bilp(BASES[name](), keep=1), data, trainer, tmp_path)
    assert wrapped.fingerprint == base.fingerprint
    assert wrapped.form.recipe == base.form.recipe
    assert not list(tmp_path.rglob("LossRanking*"))  # nothing is trained for it
    pruned = run(bilp(BASES[name](), keep=0.5), data, trainer, tmp_path)
    assert pruned.fingerprint != base.fingerprint


def test_the_base_sees_the_easiest_images_of_each_class(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    ranked = ranking()
    method = BiLP(WholeDataset(), ranked, keep=0.3, rank="mean")
    distilled = run(method, data, trainer, tmp_path)
    kept = prune_by_loss(rank_losses(ranked.losses, "mean"), data.train.labels, 0.3)
    assert torch.bincount(distilled.labels).tolist() == [6, 6, 6]
    for label in range(3):
        expected = data.train.images[kept[data.train.labels[kept] == label]]
        assert torch.equal(distilled.images[distilled.labels == label], expected)
    assert distilled.metadata["ingredients"]["ranking"]["loss"] > 0
    settings = distilled.metadata["settings"]
    assert settings["base"]["class_path"] == "WholeDataset"
    assert settings["ranking"]["init_args"]["epochs"] == 2
    assert distilled.metadata["method"] == "bilp-full"


@pytest.mark.parametrize("name", ["dm", DC_SLOW])
def test_images_that_change_steps_least_and_most_are_left_out(
    name, coloured_noise, trainer, tmp_path
):
    data = coloured_noise()
    plain = run(BASES[name](), data, trainer, tmp_path)
    method = bilp(BASES[name](), keep=1, dynamic=DYNAMIC)
    distilled = run(method, data, trainer, tmp_path)
    assert not torch.equal(distilled.images, plain.images)
    weights = []
    sampling = method.base.sampling

    def spied(base, label):
        sampler = sampling(base, label)
        weigh = sampler.weigh

        def kept(*given):
            weights.append(weigh(*given))
            return weights[-1]

        sampler.weigh = kept
        return sampler

    method.base.sampling = spied
    assert torch.equal(
        method.distill_jointly(method.work_items(data))[0].images, distilled.images[:2]
    )
    measured = [w for w in weights if w is not None]
    assert len(measured) == len(weights) / 2  # every second step
    assert all(0 < int((w == 0).sum()) < 8 for w in measured)


class Killed(DM):
    """Ends in the middle of its second class."""

    networks = 0

    def network(self, step):
        self.networks += 1
        if self.networks == 4 + 3:
            raise KilledError
        return super().network(step)


def killed_base() -> DM:
    return Killed(2, arch="convnet2-w4", iterations=4, batch_real=8)


def test_a_killed_run_and_two_ranks_end_with_the_same_bits(coloured_noise, trainer, tmp_path):
    def make(base=BASES["dm"]):
        method = bilp(base(), dynamic=DYNAMIC)
        method.attach(coloured_noise())
        return method

    whole, folder = make().run(trainer, tmp_path / "whole")
    with pytest.raises(KilledError):
        make(killed_base).run(trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("*.checkpoint"))) == 1
    Killed.networks = 100
    resumed, _ = make(killed_base).run(trainer, tmp_path / "killed")
    assert resumed.fingerprint == whole.fingerprint
    distill_on_two_ranks(make, tmp_path / "two")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert two.fingerprint == whole.fingerprint


EXPERTS = ExpertTrajectories(arch="convnet2-w4", count=1, epochs=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bilp(BASES["dm"](), keep=0.0), r"keep must be in \(0, 1\], not"),
        (lambda: bilp(BASES["dm"](), keep=1.5), r"keep must be in \(0, 1\], not"),
        (lambda: bilp(WholeDataset(), keep=0.04), "leaves 0 of the 20 images of class 'colour 0'"),
        (lambda: bilp(BASES["dm"](5), keep=0.2), r"leaves 4 of the 20 .*but 5 are needed: raise"),
        (lambda: bilp(BASES["dm"](), rank="first"), "Unknown rank 'first'"),
        (lambda: bilp(SRe2L(2)), "prunes the training images, but SRe2L does not read them"),
        (lambda: bilp(bilp(SRe2L(2))), "but SRe2L does not read them"),
        (lambda: bilp(MTT(2, EXPERTS), dynamic=DYNAMIC), "that of MTT is not: leave `dynamic` out"),
        (lambda: bilp(M3D(2, arch="convnet2-w4"), dynamic=DYNAMIC), "that of M3D is not"),
        (
            lambda: bilp(bilp(BASES["dm"](), dynamic=DYNAMIC), dynamic=DYNAMIC),
            "both choose the real",
        ),
        (lambda: DynamicPruning(high=0.5), r"dynamic.high must be in \[0, 0.5\)"),
        (lambda: DynamicPruning(low=-0.1), "dynamic.low must be in"),
        (lambda: DynamicPruning(interval=0), "dynamic.interval must be at least 1"),
        (lambda: BiLP(BASES["dm"](), ranking(epochs=0)), "ranking.epochs must be at least 1"),
        (lambda: BiLP(BASES["dm"](), ranking(lr=0.0)), "ranking.lr must be above 0"),
    ],
)
def test_what_cannot_be_pruned_is_refused(coloured_noise, make, message):
    with pytest.raises(UserError, match=message):
        make().attach(coloured_noise())


def test_plan_counts_what_is_left_and_the_ranking(coloured_noise):
    data = coloured_noise()
    method = bilp(DM(2, arch="convnet2-w4", iterations=4, batch_real=256), keep=0.25)
    method.attach(data)
    (stage,) = method.workload(Sizes.of(data), Parts())
    assert stage.passes == 4 * 3 * (5 + 2)
    train, measure = method.ingredients["ranking"].workload(Sizes.of(data))
    assert train.passes == measure.passes == 2 * 60
    assert train.flops > measure.flops > 0
