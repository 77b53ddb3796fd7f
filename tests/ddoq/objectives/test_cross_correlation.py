import pytest
import torch

from ddoq.objectives.cross_correlation import cross_correlation, redundancy_loss


def drawn(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Restate Pearson's correlation number by number."""
    both = torch.cat([first, second], dim=1).T
    return torch.corrcoef(both)[: first.shape[1], first.shape[1] :]


def test_it_is_pearsons_correlation_of_every_pair():
    first, second = drawn(50, 4), drawn(50, 4, 1) + 3
    found = cross_correlation(first, second)
    assert torch.allclose(found, plain_correlation(first, second), atol=1e-4)


def test_an_answer_that_never_changes_correlates_with_nothing():
    assert cross_correlation(torch.ones(5, 2), torch.ones(5, 2)).tolist() == [[0, 0], [0, 0]]


def test_the_loss_is_zero_for_the_identity_alone():
    assert redundancy_loss(torch.eye(6), 0.3).item() == 0
    assert redundancy_loss(torch.eye(6) * 0.9, 0.3).item() > 0
    assert redundancy_loss(torch.eye(6) + 0.1, 0.3).item() > 0


@pytest.mark.parametrize("weight", [0.0051, 1.0])
def test_the_loss_restated_entry_by_entry(weight):
    matrix = drawn(5, 5)
    expected = 0.0
    for i in range(5):
        for j in range(5):
            value = float(matrix[i, j])
            expected += (1 - value) ** 2 if i == j else weight * value**2
    assert redundancy_loss(matrix, weight).item() == pytest.approx(expected)


def test_descending_it_decorrelates_and_aligns():
    shared = drawn(64, 1)
    first = (shared + 0.1 * drawn(64, 3, 1)).requires_grad_()  # all three say the same
    second = (shared + 0.1 * drawn(64, 3, 2)).requires_grad_()
    optimizer = torch.optim.Adam([first, second], lr=0.05)
    losses = []
    for _ in range(100):
        loss = redundancy_loss(cross_correlation(first, second), 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
