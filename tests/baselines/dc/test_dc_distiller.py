import pytest
import torch
import torch.nn.functional as F
from killing import KilledError
from two_ranks import distill_on_two_ranks

from baselines.dc import DC
from baselines.dc.distiller import gradient_gap
from ddoq.augmentation.siamese import augment_siamese, draw_siamese, parse_strategy
from ddoq.costs.workload import Parts, Sizes
from ddoq.distillation.distilled_set import DistilledSet
from ddoq.errors import UserError
from ddoq.finite import DivergedError
from ddoq.networks import draw_network
from ddoq.objectives.gradients import row_cosine, squared_error

SETTINGS = {
    "ipc": 2,
    "arch": "convnet2-w4",
    "iterations": 4,
    "loops": (3, 2),
    "batch_real": 8,
    "batch_train": 4,
}


class Stopping(DC):
    """Ends in the middle of an iteration, when it is told to."""

    stop_at = -1

    def _train(self, network, images, epochs, *keys):
        if keys == (self.stop_at, 1):
            raise KilledError
        super()._train(network, images, epochs, *keys)


@pytest.fixture
def attached(coloured_noise):
    def make(**changes) -> Stopping:
        method = Stopping(**(SETTINGS | changes))
        method.checkpoint_seconds = 0  # saves after every iteration
        method.attach(coloured_noise())
        return method

    return make


def distill(method: DC) -> list[torch.Tensor]:
    return [s.images for s in method.distill_jointly(method.work_items(method.data))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loops": (0, 5)}, "loops must be two numbers of at least 1"),
        ({"loops": {10: (1, 1)}}, "loops: the table has no entry for 2 images"),
        ({"lr_net": 0.0}, "lr_net must be above 0"),
        ({"batch_train": 0}, "batch_train must be at least 1"),
        ({"distance": "row-cosin"}, "Did you mean 'row-cosine'"),
    ],
)
def test_wrong_settings_are_refused(attached, changes, message):
    with pytest.raises(UserError, match=message):
        attached(**changes)


def test_gap_by_hand():
    network = draw_network("convnet1-w4", 3, 8, seed=0)
    real, synthetic = torch.randn(5, 3, 8, 8), torch.randn(2, 3, 8, 8)
    weights = dict(network.named_parameters())

    def gradients(images: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = F.cross_entropy(network(images), torch.full((len(images),), 1))
        return dict(zip(weights, torch.autograd.grad(loss, weights.values()), strict=True))

    for distance in (row_cosine, squared_error):
        expected = distance(gradients(real), gradients(synthetic))
        torch.testing.assert_close(
            gradient_gap(network, real, synthetic, 1, distance).detach(), expected
        )
        assert gradient_gap(network, real, real, 1, distance).item() == pytest.approx(0, abs=1e-4)


def test_two_steps_with_a_training_in_between_by_hand(attached):
    """As the papers' loops, written out with torch's own optimisers."""
    method = attached(iterations=1, loops=(2, 3), lr=0.2, momentum=0.5)
    starts = [method.start(label) for label in range(3)]
    images = torch.stack([pixels.images.detach() for _, pixels in starts]).requires_grad_()
    outer = torch.optim.SGD([images], lr=0.2, momentum=0.5)
    network = method.network(0)
    inner = torch.optim.SGD(network.parameters(), lr=0.01)
    kinds = parse_strategy(method.augmentation)
    for step in range(2):
        gaps = []
        for label, (real, _) in enumerate(starts):
            batch, synthetic = method.pair(real, images[label], 0, step, label)
            gaps.append(gradient_gap(network, batch, synthetic, label, row_cosine))
        outer.zero_grad()
        (images.grad,) = torch.autograd.grad(sum(gaps), images)
        outer.step()
        if step == 1:
            break
        for epoch in range(3):
            order = torch.randperm(6, generator=method.generator("order", 0, 0, epoch))
            drawn = draw_siamese(6, (8, 8), kinds, method.generator("train", 0, 0, epoch))
            inputs = augment_siamese(images.detach().flatten(0, 1), drawn)
            for batch in (order[:4], order[4:]):
                inner.zero_grad()
                F.cross_entropy(network(inputs[batch]), batch // 2).backward()
                inner.step()
    for ours, expected in zip(distill(method), images.detach(), strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_gradients_come_nearer(attached):
    method = attached(iterations=40, loops=(1, 1), lr=1.0, init="noise", augmentation="none")
    method.batch_real = 20
    start, end = [], []
    for label, images in enumerate(distill(method)):
        real, pixels = method.start(label)
        batch = real.draw(20, torch.Generator())
        for step in range(100, 103):  # networks that the images have not met
            network = method.network(step)
            start.append(gradient_gap(network, batch, pixels.images, label, row_cosine).item())
            end.append(gradient_gap(network, batch, images, label, row_cosine).item())
    assert sum(end) < 0.8 * sum(start)


def test_classes_depend_on_one_another_through_the_networks_alone(attached, coloured_noise):
    def run(loops: tuple[int, int], noise: float) -> list[torch.Tensor]:
        data = coloured_noise()
        others = data.train.labels == 2
        data.train.images[others] = (data.train.images[others] * noise).to(torch.uint8)
        method = DC(**(SETTINGS | {"loops": loops}))
        method.attach(data)
        return distill(method)

    # The images of the third class change: under trained networks so do those of the first.
    for loops, same in (((1, 5), True), ((3, 2), False)):
        assert torch.equal(run(loops, 1.0)[0], run(loops, 0.5)[0]) is same


def test_a_killed_run_ends_with_the_same_bits(attached, trainer, tmp_path):
    whole, _ = attached().run(trainer, tmp_path / "whole")
    killed = attached()
    killed.stop_at = 2
    with pytest.raises(KilledError):
        killed.run(trainer, tmp_path / "killed")
    kept = sorted(path.name for path in (tmp_path / "killed").rglob("*.checkpoint"))
    assert kept == [f"class-{label:04d}.000000002.checkpoint" for label in range(3)]
    resumed, _ = attached().run(trainer, tmp_path / "killed")
    assert torch.equal(resumed.images, whole.images)
    assert resumed.metadata["statistics"] == whole.metadata["statistics"]


@pytest.mark.parametrize("classes", [3, 1])  # one class on two ranks: the second has nothing to do
def test_two_ranks_give_the_bits_of_one(coloured_noise, trainer, tmp_path, classes):
    def make() -> DC:
        method = DC(**SETTINGS)
        method.attach(coloured_noise(classes=classes))
        return method

    distill_on_two_ranks(make, tmp_path / "two")
    one, folder = make().run(trainer, tmp_path / "one")
    two = DistilledSet.load(tmp_path / "two" / "distilled" / folder.name)
    assert torch.equal(one.images, two.images)
    assert one.fingerprint == two.fingerprint


def test_one_rank_goes_on_where_two_were_killed(attached, trainer, tmp_path):
    def make() -> Stopping:
        method = attached()
        method.stop_at = 2
        return method

    with pytest.raises(AssertionError):
        distill_on_two_ranks(make, tmp_path / "killed")
    resumed, _ = attached().run(trainer, tmp_path / "killed")
    whole, _ = attached().run(trainer, tmp_path / "whole")
    assert torch.equal(resumed.images, whole.images)


@pytest.mark.parametrize(
    ("ipc", "steps", "epochs"), [(1, 1, 1), (9, 1, 1), (10, 10, 50), (25, 20, 25), (200, 50, 10)]
)
def test_loops_follow_the_budget(ipc, steps, epochs):
    sizes = Sizes(10, 50000, 10000, 32, 5000)
    match, *train = DC(ipc=ipc).workload(sizes, Parts())
    assert match.passes == 1000 * steps * 10 * (256 + ipc)
    assert sum(stage.passes for stage in train) == 1000 * (steps - 1) * epochs * 10 * ipc


def test_plan_counts_steps_and_trainings(attached):
    method = attached()
    match, train = method.workload(Sizes.of(method.data), Parts())
    assert match.passes == 4 * 3 * 3 * (8 + 2)
    assert train.passes == 4 * 2 * 2 * 6
    (alone,) = attached(loops=(1, 1)).workload(Sizes.of(method.data), Parts())
    assert alone.passes == 4 * 1 * 3 * (8 + 2)


def test_diverging_images_leave_nothing(attached, trainer, tmp_path):
    message = r"^dc diverged: .* of 4.* Lower the learning rate"
    with pytest.raises(DivergedError, match=message):
        attached(lr=1e30, distance="squared-error").run(trainer, tmp_path)
    assert not [path for path in tmp_path.rglob("*class-*") if path.is_file()]
