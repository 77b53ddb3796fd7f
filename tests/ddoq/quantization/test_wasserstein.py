import math
import warnings

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from ddoq.errors import UserError
from ddoq.quantization import Codebook, cell_weights, quantize, wasserstein, wasserstein2
from ddoq.quantization.codebook import make_codebook


def by_linear_programme(points, centroids, weights):
    """Solve the transport problem with HiGHS, which shares no code with POT."""
    (n, k) = len(points), len(centroids)
    cost = ((points[:, None].double() - centroids[None].double()) ** 2).sum(2).numpy()
    sums = np.vstack([np.kron(np.eye(n), np.ones(k)), np.kron(np.ones(n), np.eye(k))])
    shares = (weights.double() / weights.double().sum()).numpy()
    marginals = np.concatenate([np.full(n, 1 / n), shares])
    solved = linprog(cost.ravel(), A_eq=sums, b_eq=marginals, method="highs")
    assert solved.status == 0
    return math.sqrt(solved.fun)


@pytest.mark.parametrize("method", ["lloyd", "clvq", "random", "medoid", "d4m"])
def test_masses_of_cells_give_the_root_of_the_distortion(method, cloud):
    points = cloud(150, 6)
    book = quantize(points, 9, method=method)
    root = math.sqrt(book.distortion)
    assert wasserstein2(points, book) == pytest.approx(root, rel=1e-12)
    for weights in (book.counts, cell_weights(book.counts), 7.5 * book.counts):
        assert wasserstein2(points, book, weights) == pytest.approx(root, rel=1e-12)
    assert by_linear_programme(points, book.centroids, book.counts) == pytest.approx(root, rel=1e-7)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_other_weights_agree_with_a_linear_programme(power, cloud):
    for seed in range(5):
        points = cloud(80, 4, seed=seed)
        book = quantize(points, 7, seed=seed)
        weights = cell_weights(book.counts, power)
        expected = by_linear_programme(points, book.centroids, weights)
        assert wasserstein2(points, book, weights) == pytest.approx(expected, rel=1e-6)


def test_uniform_agrees_with_pot(cloud):
    points = cloud(400, 30)
    book = quantize(points, 16)
    cost = ot.dist(points.double().numpy(), book.centroids.double().numpy())
    expected = math.sqrt(ot.emd2(np.full(400, 1 / 400), np.full(16, 1 / 16), cost))
    assert wasserstein2(points, book, torch.ones(16)) == pytest.approx(expected, rel=1e-9)


def test_one_dimension_has_a_closed_form():
    # On a line the optimal plan is monotone: sorted points go to sorted centroids in equal shares.
    points = torch.randn(120, 1, generator=torch.Generator().manual_seed(0))
    book = quantize(points, 8)
    ranked = book.centroids.sort(0).values.repeat_interleave(15, 0)
    expected = float((points.sort(0).values.double() - ranked).square().mean().sqrt())
    assert wasserstein2(points, book, torch.ones(8)) == pytest.approx(expected, rel=1e-9)


def test_no_weights_beat_the_masses(cloud):
    generator = torch.Generator().manual_seed(0)
    for trial in range(40):
        n, d, k = (int(torch.randint(low, high, (), generator=generator)) for low, high in
                   ((20, 200), (1, 30), (2, 12)))  # fmt: skip
        points = cloud(n, d, seed=trial)
        book = quantize(points, k, method=("lloyd", "clvq", "random")[trial % 3], seed=trial)
        free = wasserstein2(points, book)
        assert wasserstein2(points, book, torch.ones(k)) >= free
        assert wasserstein2(points, book, torch.rand(k, generator=generator) + 0.01) >= free


def test_cells_are_those_of_the_given_points(cloud):
    # Counts of other points are not the masses of these: no shortcut may be taken.
    points, other = cloud(100, 3), cloud(60, 3, seed=1)
    book = quantize(other, 5)
    expected = by_linear_programme(points, book.centroids, book.counts)
    assert wasserstein2(points, book) == pytest.approx(expected, rel=1e-6)


def test_weight_zero_is_a_centroid_less(cloud):
    points = cloud(90, 3)
    centroids = cloud(4, 3, seed=1)
    full, less = make_codebook(points, centroids), make_codebook(points, centroids[:3])
    assert wasserstein2(points, full, torch.tensor([1.0, 1, 1, 0])) == pytest.approx(
        wasserstein2(points, less, torch.ones(3)), rel=1e-12
    )


def test_all_points_in_their_own_cells_are_at_distance_zero(cloud):
    points = cloud(12, 3).repeat(2, 1)
    book = quantize(points, 24)
    assert wasserstein2(points, book) == pytest.approx(0, abs=1e-6)
    assert wasserstein2(points, book, torch.ones(24)) == pytest.approx(0, abs=1e-6)


def test_offset_and_scale_do_not_cost_accuracy(cloud):
    points = (cloud(100, 4, offset=0.0) * 64).round() / 64
    book = quantize(points, 6)
    near = wasserstein2(points, book, torch.ones(6))
    moved = Codebook((book.centroids * 64).round() / 64 + 4096, book.counts, 0.0)
    still = Codebook((book.centroids * 64).round() / 64, book.counts, 0.0)
    far = wasserstein2(points + 4096, moved, torch.ones(6))
    assert far == pytest.approx(wasserstein2(points, still, torch.ones(6)), rel=1e-9)
    tiny = Codebook(book.centroids * 2**-20, book.counts, 0.0)
    assert wasserstein2(points * 2**-20, tiny, torch.ones(6)) == pytest.approx(near * 2**-20)


def test_a_solver_that_stops_early_is_an_error(cloud, monkeypatch):
    monkeypatch.setattr(wasserstein, "ITERATIONS", 1)
    points = cloud(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="no optimum for 100 points and 5 centroids"):
            wasserstein2(points, quantize(points, 5), torch.ones(5))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (torch.ones(4), r"shape \(5,\)"),
        (torch.tensor([1.0, 1, 1, 1, -1]), "not negative"),
        (torch.tensor([1.0, 1, 1, 1, math.nan]), "finite"),
        (torch.zeros(5), "not all 0"),
    ],
)
def test_weights_that_are_no_masses_are_refused(weights, words, cloud):
    points = cloud()
    with pytest.raises(UserError, match=words):
        wasserstein2(points, quantize(points, 5), weights)


def test_dimensions_must_match(cloud):
    with pytest.raises(UserError, match="5 dimensions, but the codebook has 3"):
        wasserstein2(cloud(d=5), quantize(cloud(d=3), 2))
