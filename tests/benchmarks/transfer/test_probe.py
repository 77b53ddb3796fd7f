import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.transfer.probe import fit_logistic, probe_accuracy


def drawn(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw three overlapping clusters."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = 2 * torch.eye(3, 5)
    return centres[labels] + torch.randn(n, 5, generator=generator), labels


def test_it_is_scikit_learns_logistic_regression():
    features, labels = drawn(90, 0)
    weight, bias = fit_logistic(features.double(), labels, 3)
    theirs = LogisticRegression(tol=1e-8, max_iter=1000).fit(features.numpy(), labels.numpy())
    assert weight.numpy() == pytest.approx(theirs.coef_, abs=1e-3)
    # A constant in all of the biases changes no answer.
    assert (bias - bias.mean()).numpy() == pytest.approx(
        theirs.intercept_ - theirs.intercept_.mean(), abs=1e-3
    )


def test_the_scale_of_a_feature_does_not_matter():
    train, test = drawn(90, 0), drawn(60, 1)
    plain = probe_accuracy(train, test, 3)
    scale = torch.tensor([1e-3, 1.0, 50.0, 7.0, 1.0])
    scaled = [(features * scale + 5, labels) for features, labels in (train, test)]
    assert probe_accuracy(*scaled, 3) == pytest.approx(plain, abs=0.02)
    assert 0.6 < plain < 1


def test_a_feature_that_never_changes_harms_nothing():
    (features, labels), (others, truth) = drawn(90, 0), drawn(60, 1)
    features, others = (torch.cat([f, torch.full((len(f), 1), 3.0)], 1) for f in (features, others))
    assert probe_accuracy((features, labels), (others, truth), 3) == probe_accuracy(
        (features[:, :5], labels), (others[:, :5], truth), 3
    )
