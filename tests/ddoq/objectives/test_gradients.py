import math

import pytest
import torch
from torch import nn

from ddoq.errors import UserError
from ddoq.objectives.functional import gradients_of, logits_of, weights_of
from ddoq.objectives.gradients import (
    DISTANCES,
    global_cosine,
    gradient_distance,
    row_cosine,
    squared_error,
)

REAL = {
    "conv": torch.tensor([[[[3.0]], [[4.0]]], [[[1.0]], [[0.0]]]]),  # (2, 2, 1, 1)
    "norm": torch.tensor([2.0, -2.0]),
    "linear": torch.tensor([[1.0, 1.0]]),
    "bias": torch.tensor([1.0]),
}
SYNTHETIC = {
    "conv": torch.tensor([[[[4.0]], [[3.0]]], [[[-2.0]], [[0.0]]]]),
    "norm": torch.tensor([2.0, 0.0]),
    "linear": torch.tensor([[1.0, 0.0]]),
    "bias": torch.tensor([-1.0]),
}


def test_row_cosine_by_hand():
    # Rows: 24/25, -1, 1/sqrt(2); norm and bias do not count.
    expected = (1 - 24 / 25) + 2 + (1 - 1 / math.sqrt(2))
    assert row_cosine(REAL, SYNTHETIC).item() == pytest.approx(expected, abs=1e-5)


def test_row_cosine_does_not_see_biases_and_norms():
    changed = {**SYNTHETIC, "bias": torch.tensor([100.0]), "norm": torch.tensor([7.0, 7.0])}
    assert torch.equal(row_cosine(REAL, SYNTHETIC), row_cosine(REAL, changed))


def test_row_cosine_does_not_see_the_size_of_a_row():
    scaled = {
        **SYNTHETIC,
        "conv": SYNTHETIC["conv"] * torch.tensor([5.0, 0.1])[:, None, None, None],
    }
    torch.testing.assert_close(row_cosine(REAL, SYNTHETIC), row_cosine(REAL, scaled))


def test_squared_error_by_hand():
    assert squared_error(REAL, SYNTHETIC).item() == (1 + 1 + 9) + 4 + 1 + 4


def test_global_cosine_by_hand():
    product = (12 + 12 - 2) + 4 + 1 - 1
    norms = (9 + 16 + 1 + 8 + 2 + 1) * (16 + 9 + 4 + 4 + 1 + 1)
    expected = 1 - product / math.sqrt(norms)
    assert global_cosine(REAL, SYNTHETIC).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_gradients_are_no_distance_apart(name):
    assert DISTANCES[name](REAL, REAL).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
def test_rows_without_gradient_leave_the_distance_finite(name):
    # A unit that is off for every image has a gradient of zeros.
    synthetic = {k: torch.zeros_like(v).requires_grad_() for k, v in SYNTHETIC.items()}
    distance = DISTANCES[name](REAL, synthetic)
    distance.backward()
    assert distance.isfinite()
    assert all(v.grad is None or v.grad.isfinite().all() for v in synthetic.values())


@pytest.mark.parametrize("name", DISTANCES)
def test_the_distance_is_differentiable_in_the_synthetic_images(name):
    # Second derivatives: gradients of weights, differentiated by the images.
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    weights = weights_of(network)
    real, synthetic = torch.randn(2, 4, 2, 2, 2, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0])

    def gradients(images: torch.Tensor, differentiable: bool) -> dict[str, torch.Tensor]:
        loss = nn.functional.cross_entropy(logits_of(network, weights, images), labels)
        return gradients_of(loss, weights, differentiable=differentiable)

    target = gradients(real, False)

    def distance(images: torch.Tensor) -> torch.Tensor:
        return DISTANCES[name](target, gradients(images, True))

    assert torch.autograd.gradcheck(distance, (synthetic.clone().requires_grad_(),))


def test_distances_are_looked_up_by_name():
    assert gradient_distance("row-cosine") is row_cosine
    with pytest.raises(UserError, match="Did you mean 'global-cosine'"):
        gradient_distance("global-cosin")


def test_gradients_of_other_weights_are_refused():
    with pytest.raises(ValueError, match="other weights"):
        squared_error(REAL, {"conv": REAL["conv"]})
