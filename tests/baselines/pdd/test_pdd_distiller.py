import pytest
import torch
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.bilp import BiLP, DynamicPruning, LossRanking
from baselines.dc import DC
from baselines.dm import DM
from baselines.frepo import FRePo
from baselines.ftd import FTD
from baselines.idm import IDM
from baselines.m3d import M3D
from baselines.mtt import MTT
from baselines.pdd import PDD
from baselines.random_selection import RandomSelection
from benchmarks.students.recipes import own_recipe
from benchmarks.students.training_set import TrainingSet
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.trajectories import ExpertTrajectories

NETWORK = {"arch": "convnet2-w4", "batch_real": 6}
RANKING = LossRanking("convnet2-w4", epochs=1)


def experts() -> ExpertTrajectories:
    return ExpertTrajectories("convnet2-w4", count=2, epochs=3, batch_size=32)


def matching(kind, ipc, **changes):
    given = {"iterations": 3, "steps": 2, "expert_epochs": 1, "max_start_epoch": 2, "lr": 1.0}
    return kind(ipc, experts(), **given | changes)


BASES = {
    "dm": lambda ipc=4: DM(ipc, **NETWORK, iterations=4),
    "dc": lambda ipc=4: DC(ipc, **NETWORK, iterations=2, loops=(2, 1)),
    "m3d": lambda ipc=2: M3D(ipc, **NETWORK, iterations=2),
    "idm": lambda ipc=2: IDM(
        ipc, **NETWORK, iterations=2, pool_start=2, pool_interval=1, net_steps=1, net_batch=8
    ),
    "mtt": lambda ipc=4: matching(MTT, ipc),
    "ftd": lambda ipc=4: matching(FTD, ipc, ema=0.5, batch_syn=4),
    "bilp": lambda ipc=4: BiLP(DM(ipc, **NETWORK, iterations=4), RANKING, 0.5, dynamic=DYNAMIC),
}
DYNAMIC = DynamicPruning(low=0.2, high=0.2, interval=2)


def pdd(base, stages=2, **changes) -> PDD:
    method = PDD(base, stages, **({"networks": 2, "epochs": 2, "batch_train": 8} | changes))
    method.checkpoint_seconds = 0
    return method


def run(method, data, trainer, root):
    method.attach(data)
    return method.run(trainer, root)[0]


@pytest.mark.parametrize("name", ["dm", pytest.param("dc", marks=pytest.mark.slow), "mtt"])
def test_one_stage_is_the_base_bit_for_bit(name, coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    base = run(BASES[name](), data, trainer, tmp_path)
    staged = run(pdd(BASES[name](), stages=1), data, trainer, tmp_path)
    assert staged.fingerprint == base.fingerprint
    assert staged.form.recipe == base.form.recipe
    assert staged.stages is None


def some(*quick):
    """Try some bases always, and the others with the slow tests."""
    slow = [name for name in BASES if name not in quick]
    return [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]


@pytest.mark.parametrize("name", some("dm"))
def test_a_stage_leaves_the_images_before_it_as_they_are(name, coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    method = pdd(BASES[name]())
    ipc = method.ipc
    distilled = run(method, data, trainer, tmp_path)
    assert distilled.stages.tolist() == ([0] * (ipc // 2) + [1] * (ipc // 2)) * 3
    assert distilled.labels.tolist() == sorted(distilled.labels.tolist())
    first = run(BASES[name](ipc // 2), data, trainer, tmp_path)  # the base with half of the budget
    assert torch.equal(distilled.images[distilled.stages == 0], first.images)
    assert not torch.equal(distilled.images[distilled.stages == 1], first.images)
    assert len(distilled.metadata["statistics"]["stages"]) == 2
    assert distilled.metadata["method"] == f"pdd-{method.base.method}"
    recipe = distilled.form.recipe
    assert recipe.overrides["staged"] is True
    assert recipe.overrides["epochs"] == 500
    assert len(recipe.stage_lrs) == (2 if name in ("mtt", "ftd") else 0)
    again = DistilledSet.load(next((tmp_path / "distilled").glob("pdd-*")))
    assert again.form.recipe == recipe
    training = TrainingSet.of(again, own_recipe(recipe, {"epochs": 3}))
    assert (training.plan.epochs, training.plan.stages) == (6, 2)
    if name in ("mtt", "ftd"):
        assert training.rates("convnet3") == recipe.stage_lrs


@pytest.mark.parametrize("name", ["dm", pytest.param("dc", marks=pytest.mark.slow)])
def test_a_stage_matches_old_and_new_together_under_networks_that_know_the_old(
    name, coloured_noise, trainer, tmp_path
):
    data = coloured_noise()
    method = pdd(BASES[name](), networks=2, epochs=30, lr=0.1, momentum=0.0)
    seen = []
    stage = method._stage

    def spied(number, made):
        base = stage(number, made)
        seen.append((base, made))
        return base

    method._stage = spied
    run(method, data, trainer, tmp_path)
    (first, nothing), (second, (made,)) = seen
    assert nothing == ()
    assert first.earlier is None
    assert made.images.shape == (6, 3, 8, 8)
    for label in range(3):
        real, pixels = second.start(label)
        assert torch.equal(pixels.images[:2], made.images[made.labels == label])
        others, starts = first.start(label)[0], method.base.start(label)[1]
        assert torch.equal(pixels.images[2:], starts.images[2:])  # those that the base begins with
        before = pixels.images.detach().clone()
        pixels.descend(pixels.images.square().sum())
        moved = (pixels.images != before).flatten(1).any(dim=1)
        assert moved.tolist() == [False, False, True, True]
        assert len(real) == len(others)
    correct = [
        (base.network(step)(made.images).argmax(1) == made.labels).float().mean().item()
        for base, step in ((first, 0), (second, 0), (second, 1))
    ]
    assert correct[0] < 0.9 < min(correct[1:])
    weights = [second.network(step).classifier.weight for step in range(4)]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


def test_experts_of_later_stages_begin_with_what_they_know(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    method = pdd(BASES["mtt"](), epochs=40, lr=0.1)
    seen = []
    stage = method._stage
    method._stage = lambda number, made: (seen.append(stage(number, made)), seen[-1])[1]
    run(method, data, trainer, tmp_path)
    first, second = seen
    assert (first.experts.epochs, second.experts.epochs) == (3, 2)
    network = second.experts.network(3, 8)
    images, labels = second.earlier.images, second.earlier.labels
    weights = dict(network.named_parameters())
    correct = []
    for base in seen:
        start = base.experts.segment(0, 0, 1, weights, torch.device("cpu")).start
        logits = torch.func.functional_call(network, dict(start), (images,))
        correct.append((logits.argmax(1) == labels).float().mean().item())
    assert correct[0] < 0.9 < correct[1]
    assert second.earlier.sets[0].lr == pytest.approx(method_rate(tmp_path))
    assert len(list((tmp_path / "ingredients").glob("ExpertTrajectories-*"))) == 2


def method_rate(root):
    (folder,) = (root / "distilled").glob("pdd-*")
    return DistilledSet.load(folder).form.recipe.stage_lrs[0]


class Killed(DM):
    """Ends in the middle of its second class, in its second stage."""

    networks = 0

    def network(self, step):
        Killed.networks += 1
        if Killed.networks == 3 * 4 + 4 + 2:
            raise KilledError
        return super().network(step)


@pytest.mark.parametrize("name", some("dm"))
def test_two_ranks_give_the_bits_of_one(name, coloured_noise, trainer, tmp_path):
    def make():
        method = pdd(BASES[name]())
        method.attach(coloured_noise())
        return method

    one, folder = make().run(trainer, tmp_path / "one")
    distill_on_two_ranks(make, tmp_path / "two")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert two.fingerprint == one.fingerprint


@pytest.mark.parametrize("between", [False, True])
def test_a_killed_run_ends_with_the_same_bits(
    between, coloured_noise, trainer, tmp_path, monkeypatch
):
    data = coloured_noise()
    Killed.networks = 1000
    whole = run(pdd(Killed(4, **NETWORK, iterations=4)), data, trainer, tmp_path / "whole")
    Killed.networks = 1000 if between else 0
    with monkeypatch.context() as patched:
        if between:
            patched.setattr(PDD, "_gather", lambda self, shards: _raise())
        with pytest.raises(KilledError):
            run(pdd(Killed(4, **NETWORK, iterations=4)), data, trainer, tmp_path / "killed")
    left = [path.name for path in (tmp_path / "killed").rglob("*.checkpoint")]
    assert len(left) == (3 if between else 5)
    Killed.networks = 1000
    again = run(pdd(Killed(4, **NETWORK, iterations=4)), data, trainer, tmp_path / "killed")
    assert Killed.networks - 1000 == (12 if between else 3 + 4)
    assert again.fingerprint == whole.fingerprint
    assert not list((tmp_path / "killed").rglob("*.checkpoint"))


def _raise():
    raise KilledError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pdd(BASES["dm"](), stages=3), "4 images per class cannot be shared by 3 stages"),
        (lambda: pdd(BASES["dm"](), stages=0), "stages must be at least 1"),
        (lambda: pdd(RandomSelection(4)), "PDD cannot learn RandomSelection in stages: it needs"),
        (lambda: pdd(FRePo(4)), "PDD cannot learn FRePo in stages: it needs"),
        (lambda: pdd(pdd(BASES["dm"]())), "cannot learn DM in stages: .*is in no stages yet"),
        (lambda: pdd(BASES["dm"](), networks=0), "networks must be at least 1"),
        (lambda: pdd(BASES["dm"](), lr=0.0), "lr must be above 0"),
        (lambda: pdd(BASES["dm"](22)), "ipc is 22, but class"),
        (
            lambda: pdd(matching(MTT, 4, batch_syn=8)),
            "batch_syn is 8, but the set has only 6 images",
        ),
    ],
)
def test_what_cannot_be_staged_is_refused(coloured_noise, make, message):
    with pytest.raises(UserError, match=message):
        make().attach(coloured_noise())


def test_tables_are_read_at_the_whole_budget(coloured_noise):
    method = pdd(DM(4, **NETWORK, lr={1: 0.1, 3: 0.7}))
    assert method._of_stage(coloured_noise()).lr == 0.7


def test_wrappers_nest_either_way(coloured_noise, trainer, tmp_path):
    data = coloured_noise()
    inside = run(pdd(BASES["bilp"]()), data, trainer, tmp_path)
    outside = BiLP(pdd(BASES["dm"]()), RANKING, 0.5, dynamic=DYNAMIC)
    other = run(outside, data, trainer, tmp_path)
    assert torch.equal(inside.images, other.images)
    assert inside.metadata["method"] == "pdd-bilp-dm"
    assert other.metadata["method"] == "bilp-pdd-dm"
    base = inside.metadata["settings"]["base"]
    assert base["class_path"] == "BiLP"
    assert base["init_args"]["base"]["class_path"] == "DM"
    assert set(inside.metadata["context"]["ingredients"]) == {"base.ranking"}


@pytest.mark.parametrize("name", ["dm", "mtt"])
def test_plan_counts_stages_and_what_networks_learn_before_them(name, coloured_noise):
    data = coloured_noise()
    method = pdd(BASES[name]())
    method.attach(data)
    stages = method.workload(Sizes.of(data), Parts())
    names = [stage.name for stage in stages]
    assert names[0].startswith("stage 1: match")
    assert names[1].startswith("stage 2: warm up")
    assert names[-1].startswith("stage 2: match")
    assert stages[-1].passes > stages[0].passes
    assert stages[1].passes == 2 * 2 * 6  # networks, epochs, images of the first stage
    assert sum(len(stage.files) for stage in stages if "match" in stage.name) == 1
    assert all(stage.flops > 0 for stage in stages)
