import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddoq.networks import draw_network
from ddoq.optimisation.pools import FirstInFirstOut

SETTINGS = {"start": 2, "interval": 3, "size": 4, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}


def draw(number: int) -> nn.Module:
    return draw_network("convnet1-w4", 3, 8, number, seed=0)


def pool(**changes) -> FirstInFirstOut:
    return FirstInFirstOut(draw, **(SETTINGS | changes))


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(6) % 3
    return torch.randn(6, 3, 8, 8, generator=generator) + labels.reshape(-1, 1, 1, 1), labels


def numbers(held: FirstInFirstOut) -> list[int]:
    return [member.number for member in held.members]


def run(held: FirstInFirstOut, steps: range) -> None:
    for step in steps:
        held.advance(step)
        for member in held.pick(1, torch.Generator().manual_seed(step)):
            member.learn(*batch(step))


def test_the_oldest_leaves_where_it_is_full():
    held = pool()
    seen = []
    for step in range(13):
        held.advance(step)
        seen.append(numbers(held))
    assert seen[:3] == [[0, 1]] * 3
    assert seen[3:6] == [[0, 1, 2]] * 3
    assert seen[6] == [0, 1, 2, 3]
    assert seen[9] == [1, 2, 3, 4]
    assert seen[12] == [2, 3, 4, 5]


def test_picks_are_distinct_and_by_chance():
    held = pool(start=4)
    pairs = [held.pick(2, torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert all(one is not other for one, other in pairs)
    assert {pair[0].number for pair in pairs} == {0, 1, 2, 3}
    assert len(held.pick(9, torch.Generator())) == 4


def test_learning_is_gradient_descent_with_momentum():
    member = pool().members[1]
    expected = draw(1)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    correct = 0
    assert member.accuracy == 0
    for seed in range(3):
        images, labels = batch(seed)
        member.learn(images, labels)
        logits = expected(images)
        correct += int((logits.argmax(dim=1) == labels).sum())
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    for ours, theirs in zip(member.network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    assert not member.network.training
    assert member.seen == 18
    assert member.accuracy.item() == pytest.approx(correct / 18)


def test_accuracy_is_of_those_that_have_learnt():
    held = pool()
    assert held.accuracy() == 0
    for seed in range(20):
        held.members[0].learn(*batch(seed))
    assert held.accuracy() == held.members[0].accuracy > 0.4


def test_a_restored_pool_goes_on_with_the_same_bits():
    whole, first, second = pool(), pool(), pool()
    run(whole, range(16))
    run(first, range(8))
    counts, values = (tensor.clone() for tensor in first.state())
    assert counts.shape == (4, 3)
    assert values.shape == (4, 2, sum(p.numel() for p in draw(0).parameters()))
    run(first, range(8, 16))  # what goes on after the state was taken does not change it
    second.restore(counts, values)
    assert numbers(second) == counts[:, 0].tolist()
    run(second, range(8, 16))
    for ours, expected in zip(second.state(), whole.state(), strict=True):
        assert torch.equal(ours, expected)
