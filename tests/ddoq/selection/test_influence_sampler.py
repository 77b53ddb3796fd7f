import pytest
import torch

from ddoq.selection.influence import InfluenceSampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sampler(count=100, low=0.1, high=0.2, interval=3, decay=0.5):
    return InfluenceSampler(count, low, high, interval, decay)


def never():
    raise AssertionError("measured out of turn")


def test_tails_are_left_out_until_they_are_measured_again():
    mine = sampler()
    drawn = mine.draw(100, 100, generator())
    norms = torch.exp(torch.randn(100, generator=generator(1)))
    weights = mine.weigh(drawn, lambda: norms)
    logs = norms.double().log()
    places = (logs - logs.mean()) / logs.std(unbiased=False)
    out = (places < -1.2816) | (places > 0.8416)  # a tenth and a fifth of a normal distribution
    assert 20 < int(out.sum()) < 40
    assert torch.equal(weights == 0, out)
    assert weights.mean().item() == pytest.approx(1)
    assert len(weights[weights > 0].unique()) == 1
    gone = set(drawn.positions[out].tolist())
    for step in range(2):  # not measured: drawn among the others, which count the same
        later = mine.draw(100, 100, generator(2 + step))
        assert set(later.positions.tolist()) == set(range(100)) - gone
        assert mine.weigh(later, never) is None
    again = mine.draw(100, 100, generator(5))
    assert len(again.positions) == 100
    assert mine.weigh(again, lambda: torch.ones(100)) is not None or not mine.extreme.any()


def test_images_that_were_not_measured_stay():
    mine = sampler(interval=2)
    first = mine.draw(100, 10, generator())
    mine.weigh(first, lambda: torch.logspace(-3, 3, 10))
    assert set(torch.nonzero(mine.extreme).flatten().tolist()) < set(first.positions.tolist())
    assert mine.extreme.any()


def test_the_distribution_runs_on():
    mine = sampler(interval=1, decay=0.75)
    everything = mine.draw(100, 100, generator())
    norms = torch.exp(torch.randn(100, generator=generator(1)))
    for power in (1.0, 3.0):
        mine.weigh(everything, lambda power=power: norms**power)
    logs = norms.double().log()
    variance = logs.var(unbiased=False) * (0.75 + 0.25 * 9)
    torch.testing.assert_close(mine.state()["influences"]["variance"], variance)
    out = mine.extreme.clone()
    mine.weigh(everything, lambda: 1000 * norms**3.0)  # a network under which all count more
    torch.testing.assert_close(mine.extreme.sum().item(), out.sum().item(), rtol=0.5, atol=0)


def test_of_equal_images_none_is_extreme():
    mine = sampler(interval=1)
    assert mine.weigh(mine.draw(100, 9, generator()), lambda: torch.ones(9)) is None


def test_where_nothing_is_left_everything_is_drawn():
    mine = sampler(count=2, low=0.45, high=0.45, interval=2, decay=0.0)
    mine.weigh(mine.draw(2, 2, generator()), lambda: torch.tensor([0.1, 10.0]))
    assert mine.extreme.all()
    assert len(mine.draw(2, 2, generator()).positions) == 2


def test_a_state_is_all_that_counts():
    one, other = sampler(interval=4), sampler(interval=4)
    for step in range(6):
        drawn = one.draw(100, 30, generator(step))
        one.weigh(drawn, lambda: torch.rand(30, generator=generator(9)))
    other.restore({**one.state(), "images": torch.zeros(1)})
    for step in range(6, 12):
        mine, theirs = (s.draw(100, 30, generator(step)).positions for s in (one, other))
        assert torch.equal(mine, theirs)
        for s in (one, other):
            s.weigh(
                s.draw(100, 30, generator(step)), lambda: torch.rand(30, generator=generator(8))
            )
