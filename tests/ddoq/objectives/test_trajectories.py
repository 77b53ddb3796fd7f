import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddoq.costs.flops import on_meta
from ddoq.costs.memory import peak_bytes
from ddoq.networks import build_network
from ddoq.objectives.functional import flatten_weights, split_weights, weights_of
from ddoq.objectives.trajectories import (
    Segment,
    match_sharply,
    match_trajectory,
    normalised_distance,
)

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
BATCHES = [torch.tensor(part) for part in ([0, 2, 4], [5, 3, 1], [4, 0, 2], [1, 5, 3])]
RATE = 0.05


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("convnet1-w4", 3, 8).double()


@pytest.fixture(scope="module")
def segment(network) -> Segment:
    """The target is where some steps on other images lead."""
    expert = copy.deepcopy(network)
    optimizer = torch.optim.SGD(expert.parameters(), lr=0.1)
    others = torch.randn(
        30, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(expert(others), torch.arange(30) % 3).backward()
        optimizer.step()
    return Segment(weights_of(network), weights_of(expert))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rate() -> torch.Tensor:
    return torch.tensor(RATE, dtype=torch.float64)


def view(step, images):
    """Batches of three, each step brightened by its number."""
    return images[BATCHES[step]] * (1 + 0.1 * step), LABELS[BATCHES[step]]


def trained(network, segment, images, rate, steps, **start):
    """Take the student's steps with torch alone, and return the network's weights."""
    weights = [
        w.detach().clone().requires_grad_() for w in start.get("weights", segment.start).values()
    ]
    names = list(segment.start)
    for step in steps:
        inputs, labels = view(step, images)
        answers = torch.func.functional_call(
            network, dict(zip(names, weights, strict=True)), inputs
        )
        gradients = torch.autograd.grad(
            F.cross_entropy(answers, labels), weights, create_graph=True
        )
        weights = [w - rate * g for w, g in zip(weights, gradients, strict=True)]
    return dict(zip(names, weights, strict=True))


def distance(network, segment, images, rate, steps=range(4), **start):
    return normalised_distance(trained(network, segment, images, rate, steps, **start), segment)


def cosine(one, other) -> float:
    return F.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


def test_the_distance_is_one_at_the_start_and_none_at_the_target(segment):
    assert normalised_distance(segment.start, segment).item() == 1
    assert normalised_distance(segment.target, segment).item() == 0


def test_full_gradients_are_those_of_the_whole_training(network, segment, images, rate):
    leaves = images.clone().requires_grad_(), rate.clone().requires_grad_()
    loss = distance(network, segment, *leaves)
    expected = torch.autograd.grad(loss, leaves)
    matched = match_trajectory(network, segment, images, rate, view, range(4))
    torch.testing.assert_close(matched.loss, loss.detach())
    torch.testing.assert_close((matched.images, matched.step_size), expected)
    change = torch.randn_like(images)
    h = 1e-5
    slope = (
        distance(network, segment, images + h * change, rate)
        - distance(network, segment, images - h * change, rate)
    ) / (2 * h)
    torch.testing.assert_close(
        (matched.images * change).sum(), slope.detach(), rtol=1e-5, atol=1e-9
    )
    assert not matched.loss.requires_grad
    assert not matched.images.requires_grad


def test_detached_is_full_for_one_step(network, segment, images, rate):
    full, detached = (
        match_trajectory(network, segment, images, rate, view, range(1), gradient=kind)
        for kind in ("full", "detached")
    )
    torch.testing.assert_close(detached.images, full.images, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(detached.step_size, full.step_size, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(detached.loss, full.loss)
    assert full.images[BATCHES[0]].abs().max() > 1e-6


def test_detached_nears_full_for_more_steps(network, segment, images, record_property):
    found = {}
    for rate in (1e-4, RATE, 0.5):
        full, detached = (
            match_trajectory(
                network, segment, images, torch.tensor(rate).double(), view, range(4), gradient=kind
            )
            for kind in ("full", "detached")
        )
        torch.testing.assert_close(detached.loss, full.loss)
        found[rate] = cosine(full.images, detached.images)
        record_property(f"cosine at {rate}", found[rate])
    assert found[1e-4] > 0.9999  # what early images do to late gradients is small there
    assert 0.5 < found[RATE] < 1
    assert found[0.5] < found[RATE] < found[1e-4]


def test_detached_needs_the_memory_of_one_step():
    network = on_meta(build_network("convnet2-w8", 3, 8))
    weights = weights_of(network)
    segment = Segment(weights, {name: weight + 1 for name, weight in weights.items()})
    images, rate = torch.zeros(6, 3, 8, 8, device="meta"), torch.zeros((), device="meta")
    labels = LABELS.to("meta")

    def peak(kind: str, steps: int) -> int:
        return peak_bytes(
            lambda: match_trajectory(
                network,
                segment,
                images,
                rate,
                lambda _, x: (x, labels),
                range(steps),
                gradient=kind,
            )
        )

    assert peak("full", 12) > 3 * peak("full", 2)
    assert peak("detached", 12) < 1.1 * peak("detached", 3)


@pytest.mark.parametrize("gradient", ["full", "detached"])
def test_gradients_may_go_back_through_the_last_steps_alone(
    network, segment, images, rate, gradient
):
    middle = trained(network, segment, images, rate, range(3))
    last = match_trajectory(
        network, segment, images, rate, view, range(3, 4), start=middle, gradient=gradient
    )
    short, whole, usual = (
        match_trajectory(
            network, segment, images, rate, view, range(4), gradient=gradient, **through
        )
        for through in ({"through": 1}, {"through": 4}, {})
    )
    torch.testing.assert_close(short.images, last.images)
    torch.testing.assert_close(short.step_size, last.step_size)
    torch.testing.assert_close(short.loss, usual.loss)
    assert torch.equal(whole.images, usual.images)
    assert not torch.allclose(short.images, usual.images)


@pytest.mark.parametrize("gradient", ["full", "detached"])
@pytest.mark.parametrize("through", [1, 4])
def test_weights_on_the_way_are_kept(network, segment, images, rate, gradient, through):
    kept = match_trajectory(
        network, segment, images, rate, view, range(4), gradient=gradient, through=through, keep=2
    ).kept
    expected = trained(network, segment, images, rate, range(2))
    for name, weight in expected.items():
        torch.testing.assert_close(kept[name].detach(), weight.detach())
        assert kept[name].is_leaf


def sharp(network, segment, images, rate, **given):
    settings = {"rho": 0.3, "through": 4, "reuse": 0} | given
    return match_sharply(network, segment, images, rate, view, range(4), **settings)


@pytest.mark.parametrize("gradient", ["full", "detached"])
def test_a_ball_of_no_radius_leaves_the_plain_match(network, segment, images, rate, gradient):
    plain = match_trajectory(network, segment, images, rate, view, range(4), gradient=gradient)
    for through in (1, 4):
        matched = sharp(network, segment, images, rate, rho=0.0, through=through, gradient=gradient)
        assert torch.equal(matched.images, plain.images)
        assert torch.equal(matched.step_size, plain.step_size)
        torch.testing.assert_close(matched.loss, plain.loss)


def test_without_economies_it_is_the_step_of_two_whole_trainings(network, segment, images, rate):
    clean = images.clone().requires_grad_()
    (ascent,) = torch.autograd.grad(distance(network, segment, clean, rate), clean)
    moved = (images + 0.3 * ascent / ascent.norm()).requires_grad_()
    free = rate.clone().requires_grad_()
    expected = torch.autograd.grad(distance(network, segment, moved, free), (moved, free))
    matched = sharp(network, segment, images, rate)
    torch.testing.assert_close((matched.images, matched.step_size), expected)
    plain = match_trajectory(network, segment, images, rate, view, range(4))
    assert torch.equal(matched.loss, plain.loss)
    assert not torch.allclose(matched.images, plain.images)


def test_with_both_economies_by_hand(network, segment, images, rate):
    late = match_trajectory(network, segment, images, rate, view, range(4), through=2)
    moved = (images + 0.3 * late.images / late.images.norm()).requires_grad_()
    middle = trained(network, segment, images, rate, range(3))
    loss = distance(network, segment, moved, rate, range(3, 4), weights=middle)
    (expected,) = torch.autograd.grad(loss, moved)
    matched = sharp(network, segment, images, rate, through=2, reuse=3)
    torch.testing.assert_close(matched.images, expected)


def test_vectors_are_weights_in_a_row(segment):
    vector = flatten_weights(segment.target)
    again = split_weights(vector, segment.start)
    assert list(again) == list(segment.target)
    assert all(torch.equal(again[name], segment.target[name]) for name in again)
