from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddoq.networks import draw_network
from ddoq.optimisation.pools import FirstInFirstOut, ResetAtAge, staggered
from ddoq.storage.checkpoints import flatten, unflatten

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


def aging(ages=(0, 1, 2), limit=2, **changes) -> ResetAtAge:
    optimizer = partial(torch.optim.Adam, lr=0.01)
    return ResetAtAge(draw_with_batch_norm, optimizer, ages=ages, limit=limit, **changes)


def draw_with_batch_norm(number: int) -> nn.Module:
    return draw_network("convnet1-w4-bn", 3, 8, number, seed=0)


def distilled(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batch(seed)
    return images, F.one_hot(labels, 3) - 1 / 3


def use(held: ResetAtAge, steps: range) -> None:
    for step in steps:
        held.use(held.pick(torch.Generator().manual_seed(step)), *distilled(step))


def tensors(held: ResetAtAge) -> dict[str, torch.Tensor]:
    return flatten(held.state())[0]


def test_a_network_that_exceeds_the_age_makes_way_for_a_fresh_one():
    held = aging()
    seen = []
    for _ in range(6):
        held.use(1, *distilled())
        seen.append((held.members[1].number, held.members[1].age))
    assert seen == [(1, 2), (1, 3), (3, 0), (3, 1), (3, 2), (3, 3)]
    held.use(0, *distilled())
    assert [(member.number, member.age) for member in held.members] == [(0, 1), (3, 3), (2, 2)]
    held.use(1, *distilled())  # the fresh one has the weights of its number, whatever came before
    fresh, expected = held.members[1].network, draw_with_batch_norm(4)
    assert held.members[1].number == 4
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def test_a_faithful_pool_never_trains_a_place_again():
    held = aging(faithful=True)
    seen = []
    for _ in range(5):
        held.use(2, *distilled())
        seen.append((held.members[2].number, held.members[2].age))
    assert seen == [(2, 3), (3, 3), (4, 3), (5, 3), (6, 3)]
    assert torch.equal(
        next(held.members[2].network.parameters()), next(draw_with_batch_norm(6).parameters())
    )


def test_aged_networks_learn_by_their_optimiser_and_keep_the_statistics_of_batches():
    held = aging()
    expected = draw_with_batch_norm(0).train()
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    for seed in range(3):
        images, targets = distilled(seed)
        held.use(0, images, targets)
        optimizer.zero_grad()
        F.mse_loss(expected(images), targets).backward()
        optimizer.step()
    network = held.members[0].network
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert not any(module.training for module in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())
    assert int(network.state_dict()["features.0.1.num_batches_tracked"]) == 3


def test_warming_up_gives_networks_the_steps_that_their_counters_say():
    held, other = aging(), aging(ages=(0, 0, 0))
    held.warm_up(lambda place, step: distilled(10 * place + step))
    for place, seed in ((1, 10), (2, 20), (2, 21)):
        other.use(place, *distilled(seed))
    assert [member.age for member in held.members] == [0, 1, 2]
    for ours, expected in zip(tensors(held).values(), tensors(other).values(), strict=True):
        assert torch.equal(ours, expected)


def test_every_place_is_picked():
    held = aging()
    places = [held.pick(torch.Generator().manual_seed(seed)) for seed in range(30)]
    assert set(places) == {0, 1, 2}


@pytest.mark.parametrize("faithful", [False, True])
def test_a_restored_aging_pool_goes_on_with_the_same_bits(faithful):
    whole, first, second = (aging(faithful=faithful) for _ in range(3))
    use(whole, range(24))
    use(first, range(12))
    parts, rest = flatten(first.state())
    kept = {name: tensor.clone() for name, tensor in parts.items()}
    use(first, range(12, 24))
    assert first.drawn > 4  # some made way
    second.restore(unflatten(kept, rest))
    use(second, range(12, 24))
    assert flatten(second.state())[1] == flatten(whole.state())[1]
    for ours, expected in zip(tensors(second).values(), tensors(whole).values(), strict=True):
        assert torch.equal(ours, expected)


def test_counters_are_staggered():
    assert staggered(10, 100) == list(range(0, 100, 10))
    assert staggered(1, 7) == [0]
