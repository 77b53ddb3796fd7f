import torch

from ddoq.objectives.features import mean_difference


def test_mean_difference_by_hand():
    real = torch.tensor([[1.0, 2.0], [3.0, 0.0], [2.0, 1.0]])  # mean (2, 1)
    synthetic = torch.tensor([[0.0, 0.0], [1.0, 4.0]])  # mean (0.5, 2)
    assert mean_difference(real, synthetic).item() == 1.5**2 + 1


def test_mean_difference_does_not_see_order_or_copies():
    generator = torch.Generator().manual_seed(0)
    real, synthetic = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
    value = mean_difference(real, synthetic)
    torch.testing.assert_close(mean_difference(real.flip(0), synthetic.repeat(3, 1)), value)
    torch.testing.assert_close(mean_difference(synthetic, real), value)


def test_gradient_moves_the_mean():
    real, synthetic = torch.ones(4, 2), torch.zeros(5, 2, requires_grad=True)
    mean_difference(real, synthetic).backward()
    # d/ds of |1 - mean s|^2 is -2 (1 - mean s) / 5 in every row.
    torch.testing.assert_close(synthetic.grad, torch.full((5, 2), -0.4))


def test_mean_difference_is_differentiable():
    real, synthetic = torch.randn(2, 3, 2, dtype=torch.float64)
    inputs = (real.requires_grad_(), synthetic.clone().requires_grad_())
    assert torch.autograd.gradcheck(mean_difference, inputs)
