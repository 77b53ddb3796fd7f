from functools import partial

import pytest
import torch

from ddoq.errors import UserError
from ddoq.optimisation.learned import Learned, optimizer_of
from ddoq.storage.checkpoints import flatten, unflatten


def start(name="lamb", factor=lambda step: 1 / (step + 1)) -> Learned:
    tensors = {"images": torch.arange(6.0).reshape(2, 3), "targets": torch.tensor([[1.0], [-2.0]])}
    return Learned(tensors, partial(optimizer_of, name=name, lr=0.1), factor)


def loss_of(learned: Learned) -> torch.Tensor:
    images, targets = learned.tensors["images"], learned.tensors["targets"]
    return (images.sum(dim=1, keepdim=True) - targets).square().mean()


def run(learned: Learned, steps: range) -> None:
    for step in steps:
        learned.descend(loss_of(learned), step)


def by_hand(values, gradients, rate, *, lamb: bool):
    """Take the steps of Adam, or of LAMB without decay, as their papers say."""
    first = second = torch.zeros_like(values)
    for step, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        change = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-6)
        values = values - rate * change * (values.norm() / change.norm() if lamb else 1)
    return values


@pytest.mark.parametrize("name", ["lamb", "adam"])
def test_optimisers_by_hand(name):
    values = torch.tensor([3.0, -1.0, 2.0])
    gradients = [torch.tensor([0.5, -20.0, 1.0]), torch.tensor([1.5, 4.0, -3.0])]
    learned = Learned({"x": values}, partial(optimizer_of, name=name, lr=0.1), lambda _: 1.0)
    for step, gradient in enumerate(gradients):
        learned.descend((learned.tensors["x"] * gradient).sum(), step)
    expected = by_hand(values, gradients, 0.1, lamb=name == "lamb")
    torch.testing.assert_close(learned.tensors["x"].detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["lamb", "adam"])
def test_the_loss_falls_and_what_was_given_stays(name):
    given = torch.ones(2, 3)
    learned = Learned({"x": given}, partial(optimizer_of, name=name, lr=0.1), lambda _: 1.0)
    for step in range(20):
        learned.descend(learned.tensors["x"].square().sum(), step)
    assert torch.equal(given, torch.ones(2, 3))
    assert learned.loss < 3


def test_rates_follow_the_schedule():
    still = start(factor=lambda step: float(step == 1))
    first = {name: tensor.detach().clone() for name, tensor in still.tensors.items()}
    run(still, range(1))
    assert all(torch.equal(still.tensors[name], first[name]) for name in first)
    run(still, range(1, 2))
    assert not torch.equal(still.tensors["images"], first["images"])
    moved = {name: tensor.detach().clone() for name, tensor in still.tensors.items()}
    run(still, range(2, 5))
    assert all(torch.equal(still.tensors[name], moved[name]) for name in moved)


@pytest.mark.parametrize("name", ["lamb", "adam"])
def test_a_restored_optimisation_goes_on_with_the_same_bits(name):
    whole, first, second = start(name), start(name), start(name)
    run(whole, range(6))
    run(first, range(3))
    parts, rest = flatten(first.state())
    kept = {key: tensor.clone() for key, tensor in parts.items()}
    run(first, range(3, 6))
    second.restore(unflatten(kept, rest))
    assert not torch.equal(second.tensors["images"], whole.tensors["images"])
    run(second, range(3, 6))
    for key in ("images", "targets"):
        assert torch.equal(second.tensors[key], whole.tensors[key])
    assert torch.equal(second.loss, whole.loss)


def test_unknown_optimisers_are_refused():
    with pytest.raises(UserError, match="Did you mean 'lamb'"):
        optimizer_of([torch.zeros(1)], name="lam", lr=0.1)
