import pytest
import torch
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.mtt import MTT
from baselines.trajectories import draw_batches
from benchmarks.students.recipes import load_recipe
from benchmarks.students.training_set import TrainingSet
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.networks import draw_network
from ddoq.objectives.functional import weights_of
from ddoq.objectives.trajectories import match_trajectory
from ddoq.trajectories import ExpertTrajectories

EXPERTS = {"arch": "convnet1-w4", "count": 2, "epochs": 3, "batch_size": 16, "lr": 0.05}
SETTINGS = {
    "ipc": 2,
    "iterations": 6,
    "steps": 3,
    "expert_epochs": 2,
    "max_start_epoch": 2,
    "lr": 5.0,
    "lr_step": 1e-3,
    "step_size": 0.05,
}


class Stopping(MTT):
    """Ends in the middle, when it is told to."""

    stop_at = -1

    def segment(self, step, like):
        if step == self.stop_at:
            raise KilledError
        return super().segment(step, like)


@pytest.fixture
def attached(coloured_noise):
    def make(experts=None, **changes) -> Stopping:
        method = Stopping(
            experts=ExpertTrajectories(**EXPERTS | (experts or {})), **SETTINGS | changes
        )
        method.checkpoint_seconds = 0  # saves after every step
        method.attach(coloured_noise())
        return method

    return make


@pytest.fixture
def prepared(attached, tmp_path):
    """Attach a method and record its experts, without a run."""

    def make(**changes) -> Stopping:
        method = attached(**changes)
        method.prepare(tmp_path / "prepared", {"accelerator": "cpu", "devices": 1})
        return method

    return make


def distil(method):
    (item,) = method.work_items(method.data)
    with torch.enable_grad():
        return method.distill(item)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"step_size": -0.1}, "step_size must be above 0"),
        ({"lr_step": -1.0}, "lr_step must be at least 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"gradient": "detach"}, "Did you mean 'detached'"),
        ({"init": "zeros"}, "Unknown init 'zeros'"),
        ({"ipc": 21}, "ipc is 21, but class"),
        ({"experts": {"count": 0}}, "experts.count must be at least 1"),
        (
            {"max_start_epoch": 3},
            r"start at epoch 2 .*epoch 4 of the expert .*only 3: lower one .*experts\.init_args\.epochs",
        ),
        ({"expert_epochs": 3}, "compared with epoch 4 of the expert"),
        ({"batch_syn": 7}, "batch_syn is 7, but the set has only 6 images: 3 steps .* see 21"),
        ({"batch_syn": 0}, "batch_syn must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_the_last_start_that_experts_allow_is_taken(attached):
    assert attached(max_start_epoch=2, expert_epochs=2).experts.epochs == 3
    attached(batch_syn=6)


def test_a_single_step_by_hand(prepared):
    method = prepared(iterations=1)
    started = method.start()
    network = method.experts.network(3, 8)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    segment, view = method.segment(0, weights_of(network)), method.view(0, labels)
    images = started.pixels.images.detach()
    matched = match_trajectory(network, segment, images, torch.tensor(0.05), view, range(3))
    shard = distil(method)
    assert torch.equal(shard.labels, labels)
    torch.testing.assert_close(shard.images, images - 5.0 * matched.images)
    assert shard.info["step_size"] == pytest.approx(0.05 - 1e-3 * matched.step_size.item())
    assert shard.info["losses"] == [pytest.approx(matched.loss.item())]


def test_images_start_as_real_ones_in_the_space_of_the_experts(prepared):
    method = prepared(experts={"zca": True})
    transform = method.experts.transform()
    images = method.start().pixels.images.detach()
    for label in range(3):
        stored = method.data.train.load(method.data.train.of_class(label).tolist())
        real = transform.apply(stored / 255)
        gaps = (images[2 * label : 2 * label + 2, None] - real).abs().amax((2, 3, 4))
        assert gaps.min(dim=1).values.max() < 1e-5


def test_all_experts_are_passed_before_one_comes_again(prepared):
    method = prepared(experts={"count": 5, "epochs": 1}, max_start_epoch=1, expert_epochs=1)
    seen = []
    method.experts.segment = lambda number, *_: seen.append(number)
    for step in range(15):
        method.segment(step, {})
    turns = [seen[first : first + 5] for first in (0, 5, 10)]
    assert all(sorted(turn) == list(range(5)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_starts_keep_to_their_bound(prepared):
    method = prepared(max_start_epoch=2, expert_epochs=1)
    seen = []
    method.experts.segment = lambda number, start, length, *_: seen.append((start, length))
    for step in range(40):
        method.segment(step, {})
    assert set(seen) == {(0, 1), (1, 1)}


def test_a_view_is_the_same_whenever_it_is_asked_for(prepared):
    method = prepared(batch_syn=4)
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    view = method.view(3, labels)
    first = [view(number, images) for number in range(3)]
    again = [method.view(3, labels)(number, images) for number in reversed(range(3))][::-1]
    for (inputs, answers), (others, same) in zip(first, again, strict=True):
        assert torch.equal(inputs, others)
        assert torch.equal(answers, same)
    assert [len(answers) for _, answers in first] == [4, 2, 4]
    assert not torch.equal(method.view(4, labels)(0, images)[0], first[0][0])


def test_batches_pass_over_all_images():
    batches = draw_batches(10, 4, 7, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2, 4]
    for first in (0, 3):
        assert sorted(torch.cat(batches[first : first + 3]).tolist()) == list(range(10))
    assert draw_batches(10, None, 2, torch.Generator()) == [None, None]


@pytest.mark.parametrize("gradient", ["full", "detached"])
def test_students_come_nearer_to_experts(prepared, gradient):
    method = prepared(
        iterations=60, steps=4, lr=20.0, gradient=gradient, experts={"augmentation": "none"}
    )
    info = distil(method).info
    losses = info["losses"]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert info["step_size"] != pytest.approx(0.05, rel=1e-3)


def test_a_killed_run_ends_with_the_same_bits(attached, trainer, tmp_path):
    whole, _ = attached(batch_syn=4).run(trainer, tmp_path / "whole")
    killed = attached(batch_syn=4)
    killed.stop_at = 4
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("all.checkpoint"))) == 1
    resumed, _ = attached(batch_syn=4).run(trainer, tmp_path / "killed")
    assert torch.equal(resumed.images, whole.images)
    assert resumed.metadata["statistics"] == whole.metadata["statistics"]
    assert len(whole.metadata["statistics"]["losses"]) == 6


def test_two_ranks_give_the_bits_of_one(attached, trainer, tmp_path):
    distill_on_two_ranks(attached, tmp_path / "two")
    one, folder = attached().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert torch.equal(one.images, two.images)
    assert one.fingerprint == two.fingerprint


def test_whitening_and_step_size_travel_with_the_set(attached, trainer, tmp_path):
    method = attached(experts={"zca": True, "augmentation": "color_crop"})
    _, folder = method.run(trainer, tmp_path)
    loaded = DistilledSet.load(folder)
    step_size = loaded.metadata["statistics"]["step_size"]
    recipe = loaded.form.recipe
    assert (recipe.name, recipe.lr) == ("dsa", step_size)
    assert recipe.overrides == {"lr": "set", "siamese": "color_crop"}
    data = method.data
    # Raw test images, mapped by what was stored, are those that the experts would see.
    raw = data.test.load(range(len(data.test))) / 255
    assert torch.equal(loaded.form.transform.apply(raw), method.experts.transform().apply(raw))
    training = TrainingSet.of(loaded, load_recipe("dsa", recipe.overrides), data.mean, data.std)
    assert training.learning_rate("convnet3") == pytest.approx(step_size)
    experts = loaded.metadata["ingredients"]["experts"]
    assert experts["seconds"] > 0
    assert experts["peak_memory"]["resident_bytes"] > 2**20
    assert loaded.metadata["cost"]["peak_memory"]["resident_bytes"] > 2**20


def test_divergence_leaves_nothing(attached, trainer, tmp_path):
    with pytest.raises(
        DivergedError, match=r"^mtt: all diverged: .* of 6.* Lower the learning rates"
    ):
        attached(lr=1e30).run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("all*") if path.is_file()]


def test_plan_counts_students(attached):
    method = attached(batch_syn=4)
    sizes = Sizes.of(method.data)
    (stage,) = method.workload(sizes, Parts())
    assert stage.passes == 6 * 4
    (longer,) = attached(batch_syn=4, steps=6).workload(sizes, Parts())
    assert longer.flops == pytest.approx(2 * stage.flops, rel=0.01)
    assert longer.memory > stage.memory
    (detached,) = attached(batch_syn=4, steps=6, gradient="detached").workload(sizes, Parts())
    assert detached.memory < longer.memory


def test_batch_norm_is_matched_by_the_statistics_of_batches(prepared):
    method = prepared(experts={"arch": "convnet1-w4-bn"}, iterations=2)
    assert draw_network("convnet1-w4-bn", 3, 8, seed=0).training
    assert torch.isfinite(distil(method).images).all()
