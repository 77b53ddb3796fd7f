import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from ddoq.errors import UserError
from ddoq.finite import NotFiniteError
from ddoq.objectives.kernel_regression import (
    centred_one_hot,
    margin_loss,
    predict,
    regression_loss,
    solve,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("share", ["mean", "trace"])
def test_predictions_are_those_of_scikit_learn(share, constant):
    features, support, targets = draw(5, 4), draw(7, 4, seed=1), draw(7, 3, seed=2)
    rows = support.numpy()
    if constant:
        rows = torch.cat([support, torch.ones(7, 1)], dim=1).numpy()
        features_too = torch.cat([features, torch.ones(5, 1)], dim=1).numpy()
    else:
        features_too = features.numpy()
    alpha = 0.01 * (rows**2).sum() / (7 if share == "mean" else 1)
    expected = KernelRidge(alpha=alpha).fit(rows, targets.numpy()).predict(features_too)
    ours = predict(features, support, targets, ridge=0.01, share=share, constant=constant)
    torch.testing.assert_close(ours, torch.from_numpy(expected))
    # The same regression, solved for weights of features.
    weights = Ridge(alpha=alpha, fit_intercept=False).fit(rows, targets.numpy())
    torch.testing.assert_close(ours, torch.from_numpy(weights.predict(features_too)))


def test_separable_features_reproduce_their_targets():
    support, targets = draw(6, 9).float(), draw(6, 4, seed=1).float()
    predicted = predict(support, support, targets, ridge=1e-12)
    assert predicted.dtype == torch.float64
    torch.testing.assert_close(predicted, targets.double(), atol=1e-8, rtol=0)
    coarse = predict(support, support, targets, ridge=10.0)
    assert coarse.square().sum() < 0.1 * targets.square().sum()  # a large ridge shrinks them


def test_the_order_of_distilled_images_changes_nothing():
    features, support, targets = draw(5, 4), draw(7, 4, seed=1), draw(7, 3, seed=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    first = predict(features, support, targets, ridge=1e-6)
    again = predict(features, support[order], targets[order], ridge=1e-6)
    torch.testing.assert_close(again, first, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("share", ["mean", "trace"])
def test_gradients_flow_through_the_solution_and_the_ridge(share):
    inputs = [draw(3, 4), draw(5, 4, seed=1), draw(5, 2, seed=2)]

    def outputs(features, support, targets):
        return predict(features, support, targets, ridge=0.1, share=share, constant=True)

    assert torch.autograd.gradcheck(outputs, [tensor.requires_grad_() for tensor in inputs])


def test_float32_features_are_solved_in_float64():
    """Two images that float32 can hardly tell apart are told apart by their inner products in float64."""
    support = torch.tensor([[1.0, 0.0], [1.0, 1e-4]])
    targets = torch.tensor([[0.0], [1.0]])
    predicted = predict(support, support, targets, ridge=0.0)
    torch.testing.assert_close(predicted, targets.double(), atol=1e-6, rtol=0)
    with pytest.raises(NotFiniteError, match="singular"):
        solve(support @ support.T, targets, ridge=0.0)


@pytest.mark.parametrize(
    ("support", "message"),
    [
        (torch.ones(2, 3), "2 distilled images is singular.* Raise the ridge"),
        (torch.zeros(2, 3), "singular"),
        (draw(4, 3), "4 distilled images is singular"),
        (torch.tensor([[torch.inf, 0.0], [0.0, 1.0]]), "not finite"),
    ],
    ids=["equal", "zero", "more images than features", "infinite"],
)
def test_a_system_without_solution_is_refused(support, message):
    targets = torch.ones(len(support), 2)
    with pytest.raises(NotFiniteError, match=message):
        predict(support, support, targets, ridge=0.0)


def test_a_ridge_mends_what_is_singular_without_it():
    support, targets = torch.ones(2, 3), torch.tensor([[0.0], [1.0]])
    predicted = predict(support, support, targets, ridge=1e-6)
    torch.testing.assert_close(predicted, torch.full((2, 1), 0.5).double(), atol=1e-5, rtol=0)


def test_targets_that_are_not_finite_and_unknown_shares_are_refused():
    with pytest.raises(NotFiniteError, match=r"targets .* not finite"):
        predict(draw(1, 3), draw(2, 3), torch.full((2, 1), torch.nan), ridge=1e-6)
    with pytest.raises(UserError, match=r"Unknown share 'men' .*mean"):
        predict(draw(1, 3), draw(2, 3), draw(2, 1), ridge=1e-6, share="men")


def test_loss_is_half_the_error_of_all_classes():
    predictions, targets = draw(4, 3), centred_one_hot(torch.tensor([0, 1, 2, 0]), 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.zeros(4))
    errors = [sum((p - t) ** 2 for p, t in zip(*rows, strict=True)) / 2 for rows in
              zip(predictions.tolist(), targets.tolist(), strict=True)]  # fmt: skip
    assert regression_loss(predictions, targets).item() == pytest.approx(sum(errors) / 4)


def test_margin_is_rewarded_up_to_the_share_of_a_class():
    labels = torch.tensor([[0.3, 0.1, 0.25], [2.0, -1.0, 0.0], [0.5, 0.5, 0.5]]).double()
    assert margin_loss(labels).item() == pytest.approx(-(0.05 + 1 / 3 + 0) / 3)
    assert torch.autograd.gradcheck(margin_loss, draw(4, 3).mul(0.05).requires_grad_())
    leaf = labels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(margin_loss(leaf), leaf)
    assert gradient[0].tolist() == pytest.approx([-1 / 3, 0, 1 / 3])
    assert gradient[1].abs().sum() == 0  # clear already


@pytest.mark.parametrize("labels", [torch.zeros(3, 1), torch.zeros(3)])
def test_a_margin_needs_classes(labels):
    with pytest.raises(UserError, match="at least two classes"):
        margin_loss(labels)
