import pytest
import torch

from ddoq.optimisation.step_size import SMALLEST, StepSize


def test_it_is_learned_as_torchs_sgd_would():
    rate = StepSize(0.5, lr=0.1, momentum=0.5)
    value = torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.SGD([value], lr=0.1, momentum=0.5)
    for gradient in (0.4, -0.2, 1.0):
        rate.follow(torch.tensor(gradient))
        value.grad = torch.tensor(gradient)
        optimizer.step()
        torch.testing.assert_close(rate.value, value.detach())


def test_it_never_falls_to_zero():
    rate = StepSize(0.01, lr=1.0, momentum=0.5)
    for _ in range(3):
        rate.follow(torch.tensor(10.0))
        assert rate.value.item() == pytest.approx(SMALLEST)
    for _ in range(10):  # nor does it stay there
        rate.follow(torch.tensor(-10.0))
    assert rate.value > 1


def test_a_restored_one_goes_on_with_the_same_bits():
    first, second = (StepSize(0.3, lr=0.1, momentum=0.9) for _ in range(2))
    first.follow(torch.tensor(0.7))
    second.restore({name: part.clone() for name, part in first.state().items()})
    for rate in (first, second):
        rate.follow(torch.tensor(0.1))
    assert torch.equal(first.value, second.value)
