import torch

from ddoq.optimisation.average import Average


def test_by_hand():
    average = Average(torch.tensor([1.0]), decay=0.9)
    for value in (2.0, 3.0):
        average.update(torch.tensor([value]))
    torch.testing.assert_close(average.value, torch.tensor([0.9 * (0.9 + 0.2) + 0.3]))


def test_without_decay_it_is_the_latest_value_bit_for_bit():
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 1e3
    average = Average(values[0], decay=0.0)
    for value in values[1:]:
        average.update(value)
        assert torch.equal(average.value, value)


def test_the_given_value_stays_and_a_restored_one_goes_on():
    start = torch.zeros(2)
    average = Average(start, decay=0.5)
    average.update(torch.ones(2))
    assert torch.equal(start, torch.zeros(2))
    other = Average(torch.full((2,), 9.0), decay=0.5)
    other.restore(average.value)
    other.update(torch.ones(2))
    assert torch.equal(other.value, torch.full((2,), 0.75))
