import pytest
import torch
from torch.nn import functional as F

from baselines.frepo.objective import first_labels, regression_gap
from ddoq.networks import draw_network, penultimate


@pytest.mark.parametrize("flip", [False, True])
def test_the_loss_by_hand(flip):
    network = draw_network("convnet2-w4-doubling-bn", 3, 8, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    real, images = (torch.randn(n, 3, 8, 8, generator=generator) for n in (5, 3))
    answers, targets = (torch.randn(n, 3, generator=generator) for n in (5, 3))
    images.requires_grad_()
    loss = regression_gap(network, real, answers, images, targets, 1e-3, flip=flip)
    with torch.no_grad():
        shown = torch.cat([images, images.flip(3)]) if flip else images
        labels = torch.cat([targets, targets]) if flip else targets
        support, features = (penultimate(network, x).double() for x in (shown, real))
        ridge = 1e-3 * support.square().sum() / len(support)
        # Solved for weights of features instead.
        weights = torch.linalg.solve(
            support.T @ support + ridge * torch.eye(support.shape[1]), support.T @ labels.double()
        )
        errors = (features @ weights - answers).square().sum(dim=1) / 2
    assert loss.item() == pytest.approx(errors.mean().item())
    (gradient,) = torch.autograd.grad(loss, images)
    assert gradient.abs().sum() > 0
    assert not real.requires_grad


def test_labels_start_centred_and_scaled():
    labels = first_labels(torch.tensor([3, 0]), 40)
    torch.testing.assert_close(labels.sum(dim=1), torch.zeros(2))
    torch.testing.assert_close(labels[0], (F.one_hot(torch.tensor(3), 40) - 1 / 40) / 2)
