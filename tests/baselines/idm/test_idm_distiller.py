import pytest
import torch
import torch.nn.functional as F
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.idm import IDM
from baselines.idm.distiller import recognised_gap
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.networks import draw_network, penultimate

SETTINGS = {
    "ipc": 2,
    "arch": "convnet2-w4",
    "iterations": 5,
    "batch_real": 8,
    "pool_start": 2,
    "pool_interval": 1,
    "pool_size": 4,
    "net_steps": 2,
    "net_batch": 12,
}


class Stopping(IDM):
    """Ends in the middle of an iteration, when it is told to."""

    stop_at = -1

    def _train(self, pool, iteration):
        if iteration == self.stop_at:
            raise KilledError
        super()._train(pool, iteration)


@pytest.fixture
def attached(coloured_noise):
    def make(classes: int = 3, **changes) -> Stopping:
        method = Stopping(**(SETTINGS | changes))
        method.checkpoint_seconds = 0  # saves after every iteration
        method.attach(coloured_noise(classes=classes))
        return method

    return make


def distill(method: IDM) -> list[torch.Tensor]:
    return [s.images for s in method.distill_jointly(method.work_items(method.data))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_start": 0}, "pool_start must be at least 1"),
        ({"pool_interval": {1: 0}}, "pool_interval must be at least 1"),
        ({"pool_size": 1}, "pool_size must be at least pool_start, which is 2, not 1"),
        ({"nets_trained": 0}, "nets_trained must be at least 1"),
        ({"net_steps": {5: 1}}, "net_steps: the table has no entry for 2 images"),
        ({"net_steps": {10: {1: 1}}}, "net_steps: the table has no entry for 3 classes"),
        ({"net_batch": 0}, "net_batch must be at least 1"),
        ({"lr_net": 0.0}, "lr_net must be above 0"),
        ({"momentum_net": 1.0}, r"momentum_net must be in \[0, 1\)"),
        ({"weight_decay_net": -0.1}, "weight_decay_net must be at least 0"),
        ({"ce_weight": -1.0}, "ce_weight must be at least 0"),
        ({"factor": 3}, "does not divide images of 8 pixels"),
        ({"ipc": 6}, "each class needs 24 real images"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


@pytest.mark.parametrize(
    ("classes", "ipc", "weight", "steps", "interval", "real"),
    [
        (10, 1, 0.5, 10, 5, 5000),
        (10, 10, 0.5, 10, 30, 256),
        (10, 50, 0.1, 10, 30, 256),
        (100, 1, 0.5, 10, 5, 5000),
        (100, 10, 0.1, 50, 30, 256),
        (100, 50, 0.1, 10, 30, 256),
        (200, 10, 0.5, 10, 30, 256),
        (200, 50, 0.8, 10, 30, 256),
    ],
)
def test_the_numbers_of_the_official_code(classes, ipc, weight, steps, interval, real):
    method = IDM(ipc)
    assert method._budgeted(classes) == (interval, steps, weight)
    assert method._batch_real(classes) == real


def test_plan_counts_cells_and_the_training_of_the_pool(attached):
    method = attached(net_batch=100)  # of 60 images
    match, train = method.workload(Sizes.of(method.data), Parts())
    assert match.passes == 5 * 3 * (8 + 4 * 2)
    assert train.passes == 5 * 2 * 2 * 60
    weights = sum(parameter.numel() for parameter in method.network(0).parameters())
    assert train.memory > 4 * 2 * 4 * weights  # of four networks, with their velocities


def test_gap_by_hand():
    network = draw_network("convnet1-w4", 3, 8, seed=0)
    real, synthetic = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 8, 8)
    means = [penultimate(network, images).mean(dim=0) for images in (real, synthetic)]
    entropy = F.cross_entropy(network(synthetic), torch.tensor([2, 2]))
    for weight in (0.0, 7.0):
        gap = recognised_gap(network, real, synthetic, label=2, weight=weight)
        torch.testing.assert_close(gap, (means[0] - means[1]).pow(2).sum() + weight * entropy)


def test_two_iterations_by_hand(attached):
    """As the official loop: one optimiser for the images of all classes, a step after each class, then the networks."""
    changes = {"pool_start": 3, "pool_interval": 1, "pool_size": 3, "nets_trained": 1}
    method = attached(iterations=2, lr=0.2, momentum=0.5, ce_weight=0.3, **changes)
    starts = [method.start(label) for label in range(3)]
    images = torch.stack([pixels.images.detach() for _, pixels in starts]).requires_grad_()
    outer = torch.optim.SGD([images], lr=0.2, momentum=0.5)
    numbers, accuracies = [0, 1, 2], dict.fromkeys(range(4), 0.0)
    networks = {number: method.network(number) for number in range(4)}
    for iteration in range(2):
        if iteration == 1:
            numbers = [1, 2, 3]
        for label, (real, _) in enumerate(starts):
            order = torch.randperm(3, generator=method.generator("pick", iteration, label))
            number = numbers[int(order[0])]
            pair = method.pair(real, images[label], iteration, label)
            weight = 0.3 * 100 * accuracies[number]
            outer.zero_grad()
            recognised_gap(networks[number], *pair, label=label, weight=weight).backward()
            outer.step()
        if iteration == 1:
            break
        order = torch.randperm(3, generator=method.generator("train", iteration))
        number = numbers[int(order[0])]
        network, correct = networks[number], 0
        network.zero_grad()
        inner = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
        for step in range(2):
            inputs, labels = method._real_batch(iteration, number, step)
            logits = network(inputs)
            correct += int((logits.argmax(dim=1) == labels).sum())
            inner.zero_grad()
            F.cross_entropy(logits, labels).backward()
            inner.step()
        accuracies[number] = correct / 24
    # The last class has not yet coasted through the steps of others; the first through those of all.
    velocity = outer.state[images]["momentum_buffer"]
    expected = images.detach().clone()
    for label in range(3):
        expected[label] -= 0.2 * velocity[label] * sum(0.5**k for k in range(1, label + 1))
    assert max(accuracies.values()) > 0
    for ours, theirs in zip(distill(method), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_real_batches_hold_images_with_their_labels(attached):
    method = attached(augmentation="none")
    images, labels = method._real_batch(0, 1, 0)
    again, _ = method._real_batch(0, 1, 0)
    other, _ = method._real_batch(0, 1, 1)
    assert images.shape == (12, 3, 8, 8)
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    everything = method._transform().apply(method.data.train.images / 255)
    for image, label in zip(images, labels, strict=True):
        position = (everything == image).flatten(1).all(dim=1).nonzero().item()
        assert method.data.train.labels[position] == label


def test_images_come_nearer_and_are_recognised(attached):
    given = {"lr": 2.0, "ce_weight": 0.05, "lr_net": 0.1, "net_steps": 3, "pool_interval": 2}
    method = attached(**given, iterations=25, init="noise", augmentation="none")
    shards = method.distill_jointly(method.work_items(method.data))
    pool = method.pool()
    for iteration in range(25):
        pool.advance(iteration)
        method._train(pool, iteration)
    assert method.summarize([shard.info for shard in shards])["pool_accuracy"] == pool.accuracy()
    assert pool.accuracy() > 0.5
    gaps: dict[str, float] = {"start": 0.0, "end": 0.0}
    entropies = dict(gaps)
    for label, shard in enumerate(shards):
        real, pixels = method.start(label)
        for member in pool.members:
            for when, images in (("start", pixels.images.detach()), ("end", shard.images)):
                pair = method.pair(real, images, 99, label)
                gap, more = (
                    recognised_gap(member.network, *pair, label=label, weight=weight).item()
                    for weight in (0.0, 1.0)
                )
                gaps[when] += gap
                entropies[when] += more - gap
    assert gaps["end"] < 0.6 * gaps["start"]
    assert entropies["end"] < 0.8 * entropies["start"]


def test_a_killed_run_ends_with_the_same_bits_on_any_number_of_ranks(attached, trainer, tmp_path):
    whole, folder = attached().run(trainer, tmp_path / "whole")
    for name in ("one", "two"):
        killed = attached()
        killed.stop_at = 3
        with pytest.raises(KilledError):
            killed.run(trainer, tmp_path / name)
    kept = sorted((tmp_path / "one").rglob("*.checkpoint"))
    assert [p.name for p in kept] == [f"class-{k:04d}.000000003.checkpoint" for k in range(3)]
    pool, *others = (path.stat().st_size for path in kept)
    assert pool > 2 * max(others)  # it is kept once
    resumed, _ = attached().run(trainer, tmp_path / "one")
    distill_on_two_ranks(attached, tmp_path / "two")
    for again in (resumed, DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)):
        assert torch.equal(again.images, whole.images)
        assert again.metadata["statistics"] == whole.metadata["statistics"]


def test_a_rank_without_a_class_has_nothing_to_do(attached, trainer, tmp_path):
    distill_on_two_ranks(lambda: attached(classes=1), tmp_path / "two")
    one, folder = attached(classes=1).run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert one.fingerprint == two.fingerprint


def test_diverging_images_leave_nothing(attached, trainer, tmp_path):
    with pytest.raises(DivergedError, match=r"^idm diverged: .* of 5.* Lower the learning rate"):
        attached(lr=1e38).run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("*class-*") if path.is_file()]
