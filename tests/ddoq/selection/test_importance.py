import pytest
import torch

from ddoq.errors import UserError
from ddoq.selection.importance import ImportanceSampler
from ddoq.selection.sampling import Sampler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weighted_means_are_unbiased_over_many_draws():
    rows = torch.randn(30, 4, generator=generator(), dtype=torch.float64)
    sampler = ImportanceSampler(torch.rand(30, generator=generator(1)) ** 3 + 0.02)
    weighted, plain, repeats = [], [], 4000
    for seed in range(repeats):
        drawn = sampler.draw(30, 8, generator(seed))
        weighted.append((drawn.weights[:, None] * rows[drawn.positions]).mean(0))
        plain.append(rows[drawn.positions].mean(0))
    means = torch.stack(weighted)
    error = means.std(0) / repeats**0.5
    assert ((means.mean(0) - rows.mean(0)).abs() < 4 * error).all()
    assert ((torch.stack(plain).mean(0) - rows.mean(0)).abs() > 8 * error).any()


def test_likelier_images_come_more_often_and_first():
    sampler = ImportanceSampler(torch.tensor([1.0, 2.0, 4.0, 0.0]))
    drawn = torch.cat([sampler.draw(4, 4, generator(seed)).positions for seed in range(500)])
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([1, 2, 4, 0]) / 7, atol=0.04, rtol=0)
    firsts = torch.stack([sampler.first(4, 4, generator(seed)) for seed in range(500)])
    assert (firsts.sort(dim=1).values == torch.arange(4)).all()  # none comes twice
    assert (firsts[:, 3] == 3).all()
    leading = torch.bincount(firsts[:, 0], minlength=4) / 500
    torch.testing.assert_close(leading, torch.tensor([1, 2, 4, 0]) / 7, atol=0.08, rtol=0)
    assert torch.equal(sampler.first(4, 2, generator()), firsts[0, :2])


def test_starts_or_batches_may_stay_uniform():
    scores, usual = torch.tensor([1.0, 1.0, 1000.0]), Sampler()
    batches = ImportanceSampler(scores, first=False)
    starts = ImportanceSampler(scores, batches=False)
    assert torch.equal(batches.first(3, 3, generator()), usual.first(3, 3, generator()))
    drawn = starts.draw(3, 2, generator())
    assert torch.equal(drawn.positions, usual.draw(3, 2, generator()).positions)
    assert drawn.weights is None


@pytest.mark.parametrize("scores", [[0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_what_is_no_importance_is_refused(scores):
    with pytest.raises(UserError, match="finite and at least 0"):
        ImportanceSampler(torch.tensor(scores))
