import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from ddoq.errors import UserError
from ddoq.labels.losses import (
    hard_cross_entropy,
    mix_weights,
    soft_cross_entropy,
    soft_kl,
    weighted_mean,
)


@pytest.fixture
def logits() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 5 * torch.randn(2, 16, 7, generator=generator).double(), torch.arange(16) % 7


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_folds_to_torchs_batchmean(logits, temperature):
    student, teacher = logits[0].float()
    reference = torch.nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
    )
    losses = soft_kl(student, teacher, temperature)
    assert losses.shape == (16,)
    assert (losses >= 0).all()
    torch.testing.assert_close(weighted_mean(losses, torch.ones(16)), reference)


def test_kl_of_each_sample_matches_the_definition(logits):
    student, teacher = logits[0]
    p = np.exp(teacher.numpy() / 3) / np.exp(teacher.numpy() / 3).sum(1, keepdims=True)
    q = np.exp(student.numpy() / 3) / np.exp(student.numpy() / 3).sum(1, keepdims=True)
    np.testing.assert_allclose(
        soft_kl(student, teacher, 3.0), (p * np.log(p / q)).sum(1), rtol=1e-4
    )


def test_squared_temperature_is_a_factor(logits):
    student, teacher = logits[0]
    for loss in (soft_kl, soft_cross_entropy):
        torch.testing.assert_close(
            loss(student, teacher, 20.0, scale_t2=True), 400 * loss(student, teacher, 20.0)
        )


def test_cross_entropy_is_kl_plus_the_teachers_entropy(logits):
    student, teacher = logits[0]
    entropy = torch.distributions.Categorical(logits=teacher.float() / 5).entropy()
    torch.testing.assert_close(
        soft_cross_entropy(student, teacher, 5.0), soft_kl(student, teacher, 5.0) + entropy
    )


def test_kl_and_cross_entropy_teach_the_same(logits):
    student, teacher = logits[0].float()
    gradients = []
    for loss in (soft_kl, soft_cross_entropy):
        leaf = student.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(leaf, teacher, 20.0).sum(), leaf)[0])
    torch.testing.assert_close(*gradients)


def test_hard_cross_entropy_against_scikit_learn(logits):
    (student, _), labels = logits
    mean = hard_cross_entropy(student, labels).mean()
    reference = log_loss(labels, F.softmax(student, 1).numpy(), labels=range(7))
    assert mean.item() == pytest.approx(reference, rel=1e-5)


def test_mixed_hard_labels_equal_torchs_probability_targets(logits):
    (student, _), labels = logits
    partners, lam = labels.flip(0), torch.linspace(0, 1, 16)
    targets = lam[:, None] * F.one_hot(labels, 7) + (1 - lam)[:, None] * F.one_hot(partners, 7)
    torch.testing.assert_close(
        hard_cross_entropy(student, labels, partners, lam),
        F.cross_entropy(student.float(), targets, reduction="none"),
    )


def test_half_precision_logits_are_computed_on_in_float32(logits):
    student, teacher = logits[0].to(torch.bfloat16)
    assert soft_kl(student, teacher, 20.0).dtype == torch.float32
    assert hard_cross_entropy(student, logits[1]).dtype == torch.float32


def test_both_reductions():
    losses, weights = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.5, 1.0, 3.0])
    assert weighted_mean(losses, weights).item() == pytest.approx(14.5 / 3)
    assert weighted_mean(losses, weights, "weights").item() == pytest.approx(
        np.average(losses, weights=weights)
    )


@pytest.mark.parametrize("reduction", ["batch", "weights"])
def test_shares_of_ranks_add_up_to_the_batch(reduction):
    losses, weights = torch.rand(7), torch.rand(7)
    whole = weighted_mean(losses, weights, reduction)
    shares = [
        weighted_mean(losses[rank::3], weights[rank::3], reduction, weights) for rank in range(3)
    ]
    torch.testing.assert_close(sum(shares), whole)


def test_zero_weights_give_zero():
    assert weighted_mean(torch.ones(3), torch.zeros(3), "weights").item() == 0.0


def test_unknown_reduction():
    with pytest.raises(UserError, match=r"'sum'.*batch, weights"):
        weighted_mean(torch.ones(1), torch.ones(1), "sum")  # type: ignore[arg-type]


def test_mixed_weights_keep_the_mean():
    weights, lam = torch.tensor([0.5, 1.5]), torch.tensor([0.3, 0.3])
    mixed = mix_weights(weights, weights.flip(0), lam)
    torch.testing.assert_close(mixed, torch.tensor([0.3 * 0.5 + 0.7 * 1.5, 0.3 * 1.5 + 0.7 * 0.5]))
    assert mixed.mean().item() == pytest.approx(1.0)
