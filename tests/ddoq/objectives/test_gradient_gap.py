import pytest
import torch
from torch import nn

from ddoq.errors import UserError
from ddoq.networks import build_network
from ddoq.objectives.functional import weights_of
from ddoq.objectives.gradient_gap import (
    check_additive,
    cross_entropy,
    gradient_gap,
    gradient_slopes,
    weighted_gradients,
)
from ddoq.quantization import quantize, wasserstein2


def half_squares(outputs, targets):
    return (outputs - targets).square().sum(dim=1) / 2


@pytest.fixture
def points() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([2.0, 1.0, 0.5, 0.1])
    return (torch.randn(200, 4, generator=generator) * spread).exp()  # cells of unequal mass


@pytest.fixture
def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3, bias=False).double()


def gap_of(network, points, inputs, shares, target, loss=half_squares):
    weights = weights_of(network)
    real, synthetic = (
        weighted_gradients(
            network, weights, x.double(), target.expand(len(x), -1), s[None].double(), loss=loss
        )[0]
        for x, s in ((points, torch.full((len(points),), 1 / len(points))), (inputs, shares))
    )
    return gradient_gap(real, synthetic)


def test_the_gap_of_a_linear_model_is_the_covariance_within_cells(points, linear):
    """With squared loss the gradient is W E[xx'] - t E[x]': Lloyd keeps E[x], and loses the covariance within cells."""
    book = quantize(points, 7, seed=0)
    target = torch.tensor([[1.0, -2.0, 0.5]]).double()
    shares = book.counts.double() / book.counts.sum()
    gap = gap_of(linear, points, book.centroids, shares, target)
    exact = points.double()
    within = (exact.T @ exact) / len(points) - (
        book.centroids.double().T * shares
    ) @ book.centroids.double()
    assert float(within.trace()) == pytest.approx(book.distortion, rel=1e-4)
    expected = float((linear.weight.detach() @ within).norm())
    assert gap.norm == pytest.approx(expected, rel=1e-3)
    # With equal weights the mean is lost as well.
    uniform = torch.full((7,), 1 / 7)
    moments = [
        (x.double().T * s.double()) @ x.double() for x, s in ((book.centroids, uniform),)
    ] + [(exact.T @ exact) / len(points)]
    shift = (book.centroids.double().mean(0) - exact.mean(0))[None]
    closed = linear.weight.detach() @ (moments[0] - moments[1]) - target.T @ shift
    assert gap_of(linear, points, book.centroids, uniform, target).norm == pytest.approx(
        float(closed.norm()), rel=1e-3
    )


def test_a_codebook_of_all_points_leaves_no_gap(points):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).double()
    weights = weights_of(network)
    book = quantize(points, len(points), seed=0)
    labels = torch.zeros(len(points), dtype=torch.int64)
    shares = (book.counts.double() / book.counts.sum())[None]
    real = weighted_gradients(
        network, weights, points.double(), labels, torch.full((1, 200), 1 / 200)
    )
    other = weighted_gradients(
        network, weights, book.centroids.double().flip(0), labels, shares, batch_size=7
    )
    gap = gradient_gap(real[0], other[0])
    assert gap.relative < 1e-6
    assert gap.cosine == pytest.approx(1)


def test_the_order_of_samples_does_not_matter_if_weights_go_with_them(points, linear):
    book = quantize(points, 7, seed=0)
    shares = book.counts / book.counts.sum()
    target = torch.zeros(1, 3).double()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    gap = gap_of(linear, points, book.centroids, shares, target)
    moved = gap_of(linear, points, book.centroids[order], shares[order], target)
    assert moved.norm == pytest.approx(gap.norm, rel=1e-9)
    # Weights that do not go with them are other weights.
    assert gap_of(linear, points, book.centroids, shares[order], target).norm > 2 * gap.norm


@pytest.mark.parametrize("method", ["lloyd", "random", "d4m"])
@pytest.mark.parametrize("masses", [True, False])
def test_the_gap_is_below_the_lipschitz_constant_times_the_distance(points, method, masses):
    """Of logistic regression x -> (p - y) x' on the half line; a bound: |x| / 2 |W| + |p - y|."""
    points = points.clamp(max=3)
    network = nn.Linear(4, 3, bias=False).double()
    nn.init.constant_(network.weight, 0.2)
    weights = weights_of(network)
    book = quantize(points, 5, seed=1, method=method)
    shares = book.counts.double() if masses else torch.ones(5).double()
    labels = torch.zeros(len(points), dtype=torch.int64)
    real = weighted_gradients(
        network, weights, points.double(), labels, torch.full((1, 200), 1 / 200)
    )
    other = weighted_gradients(
        network, weights, book.centroids.double(), labels[:5], (shares / shares.sum())[None]
    )
    lipschitz = (
        float(points.norm(dim=1).max()) * 0.5 * float(network.weight.detach().norm()) + 2**0.5
    )
    distance = wasserstein2(points, book, shares)
    assert 0 < gradient_gap(real[0], other[0]).norm <= lipschitz * distance
    slopes = gradient_slopes(network, weights, points.double(), points.double().roll(1, 0), labels)
    assert 0 < float(slopes.max()) <= lipschitz


def test_slopes_are_those_of_single_gradients():
    torch.manual_seed(0)
    network = build_network("convnet2-w4", 3, 8)
    weights = weights_of(network)
    images = torch.randn(4, 3, 8, 8)
    labels = torch.tensor([0, 2])
    slopes = gradient_slopes(network, weights, images[:2], images[2:], labels)
    for n in range(2):
        one = torch.ones(1, 1)
        a, b = (
            weighted_gradients(network, weights, x[None], labels[n : n + 1], one)[0]
            for x in (images[n], images[n + 2])
        )
        expected = (a - b).norm() / (images[n] - images[n + 2]).norm()
        assert float(slopes[n]) == pytest.approx(float(expected), rel=1e-3)
    assert (
        float(gradient_slopes(network, weights, images, images, torch.zeros(4).long()).max()) == 0
    )


def test_rows_of_shares_are_sets_of_their_own():
    torch.manual_seed(0)
    network = build_network("convnet2-w4", 3, 8)
    weights = weights_of(network)
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    shares = torch.rand(3, 6)
    rows = weighted_gradients(network, weights, images, labels, shares, batch_size=4)
    losses = cross_entropy(network(images), labels)
    network.zero_grad()
    (losses @ shares[1]).backward()
    expected = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert torch.allclose(rows[1], expected, rtol=1e-4, atol=1e-6)


def test_a_vanishing_gradient():
    zero = torch.zeros(2)
    assert gradient_gap(zero, zero).relative == 0
    assert gradient_gap(zero, torch.ones(2)).relative == float("inf")
    assert gradient_gap(torch.ones(2), zero).cosine == 0


@pytest.mark.parametrize(
    ("layer", "refused"),
    [(nn.BatchNorm1d(2), True), (nn.Dropout(0.1), True), (nn.Dropout(0.0), False)],
)
def test_networks_whose_loss_is_no_mean_are_refused(layer, refused):
    network = nn.Sequential(nn.Linear(2, 2), layer)
    if not refused:
        check_additive(network)
        return
    with pytest.raises(UserError, match=rf"1 is a {type(layer).__name__}.*convnet3-w32"):
        check_additive(network)
