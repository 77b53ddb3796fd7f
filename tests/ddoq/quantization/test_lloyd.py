import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ddoq.quantization import lloyd as lloyd_module
from ddoq.quantization import quantize
from ddoq.quantization.assignment import nearest
from ddoq.quantization.geometry import Coordinates, InnerProducts
from ddoq.quantization.lloyd import fill_empty, lloyd, partition
from ddoq.seeding import generator_for


def centred(points):
    return points - points.double().mean(0).float()


@pytest.mark.parametrize(("n", "d"), [(300, 2), (400, 20), (120, 300)])
@pytest.mark.parametrize("k", [4, 15])
def test_iterations_match_scikit_learn_from_the_same_seeds(n, d, k, cloud):
    for seed in range(10):
        points = centred(cloud(n, d, seed=seed))
        ours = partition(Coordinates(points), k, generator_for(seed), 300, 0.0)
        exact = points.double().numpy()
        theirs = KMeans(k, init=exact[ours.seeds], n_init=1, tol=0).fit(exact)
        assert ours.distortion == pytest.approx(theirs.inertia_ / n, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(300, 2), (400, 20), (120, 300)])
@pytest.mark.parametrize("k", [4, 15])
def test_distortion_matches_scikit_learn(n, d, k, cloud):
    # The best of 10 starts still varies by about 1 % between seeds: 40 starts and 12 problems bring the
    # standard error of the mean well below the 0.5 % that is asked for.
    ratios = []
    for seed in range(12):
        points = cloud(n, d, seed=seed)
        ours = quantize(points, k, seed=seed, restarts=40).distortion
        theirs = KMeans(k, n_init=40, tol=0, random_state=seed).fit(points.double().numpy())
        ratios.append(ours / (theirs.inertia_ / n))
    assert float(np.mean(ratios)) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize(("n", "d"), [(500, 3), (100, 400), (2000, 1)])
def test_converged_centroids_are_the_means_of_their_cells(n, d, cloud):
    for seed in range(5):
        points = cloud(n, d, seed=seed, offset=100.0)
        book = quantize(points, 12, seed=seed)
        labels = nearest(points, book.centroids)
        means = torch.stack([points[labels == cell].double().mean(0) for cell in range(12)])
        assert torch.equal(book.centroids, means.float())


def test_scikit_learn_cannot_improve_the_result(cloud):
    points = cloud(400, 6)
    book = quantize(points, 10)
    again = KMeans(10, init=book.centroids.double().numpy(), n_init=1, tol=0).fit(
        points.double().numpy()
    )
    assert again.inertia_ / 400 == pytest.approx(book.distortion, rel=1e-9)


@pytest.mark.parametrize("k", [3, 10])
def test_inner_products_give_the_answer_of_coordinates(k, cloud, monkeypatch):
    for seed in range(5):
        points = cloud(90, 500, seed=seed)
        books = []
        for kind in (Coordinates, InnerProducts):
            monkeypatch.setattr(
                lloyd_module, "choose_geometry", lambda p, *_, kind=kind: kind(centred(p))
            )
            books.append(lloyd(points, k, seed=seed, restarts=3))
        assert torch.equal(books[0].centroids, books[1].centroids)
        assert torch.equal(books[0].counts, books[1].counts)
        assert books[0].distortion == books[1].distortion


def test_restarts_keep_the_best(cloud):
    points = cloud(300, 4)
    losses = [quantize(points, 15, restarts=r).distortion for r in (1, 4, 16)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_stopping_early_is_worse_and_said(cloud):
    points = cloud(2000, 2, modes=1)
    full = quantize(points, 30)
    with pytest.warns(UserWarning, match="max_iterations"):
        short = quantize(points, 30, max_iterations=2)
    loose = quantize(points, 30, tolerance=0.05)
    assert full.distortion < loose.distortion
    assert full.distortion < short.distortion
    assert int(short.counts.sum()) == int(loose.counts.sum()) == 2000


@pytest.mark.parametrize("d", [1, 2, 3])
def test_error_falls_with_the_dimension(d):
    # Zador: the root of the distortion of an optimal quantiser falls like K^(-1/d).
    points = torch.rand(20_000, d, generator=torch.Generator().manual_seed(d))
    sizes = [8, 16, 32, 64]
    roots = [math.sqrt(quantize(points, k, tolerance=1e-4).distortion) for k in sizes]
    slope = np.polyfit(np.log(sizes), np.log(roots), 1)[0]
    assert slope == pytest.approx(-1 / d, rel=0.06)


@pytest.mark.parametrize("k", [2, 5, 16])
def test_uniform_line_reaches_the_closed_form(k):
    # The best K points on [0, 1] are the midpoints of K equal cells: the root is 1 / (2 K sqrt 3).
    points = ((torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000)[:, None]
    book = quantize(points, k, restarts=3, max_iterations=3000)
    assert math.sqrt(book.distortion) == pytest.approx(1 / (2 * k * math.sqrt(3)), rel=2e-3)
    midpoints = (torch.arange(k) + 0.5) / k
    torch.testing.assert_close(
        book.centroids.flatten().sort().values, midpoints, atol=0.05 / k, rtol=0
    )


def test_empty_cells_take_the_farthest_points():
    labels = torch.tensor([0, 0, 0, 2, 2, 3])
    distances = torch.tensor([1.0, 5.0, 0.0, 3.0, 0.5, 9.0])
    filled, counts = fill_empty(labels, distances, 6)
    # The farthest point is alone in its cell and stays; then 5.0, then 3.0, then 1.0.
    assert filled.tolist() == [5, 1, 0, 4, 2, 3]
    assert counts.tolist() == [1] * 6
    assert labels.tolist() == [0, 0, 0, 2, 2, 3]


def test_points_on_their_centroid_fill_no_cell():
    labels, counts = fill_empty(torch.tensor([0, 0, 0]), torch.zeros(3), 2)
    assert labels.tolist() == [0, 0, 0]
    assert counts.tolist() == [3, 0]


def test_no_cell_is_empty_where_points_are_distinct():
    # A dense blob and far outliers: cells run empty if nothing is done about it.
    generator = torch.Generator().manual_seed(0)
    blob = 1e-2 * torch.randn(300, 2, generator=generator)
    points = torch.cat([blob, 100 * torch.randn(20, 2, generator=generator)])
    for seed in range(10):
        assert int(quantize(points, 40, seed=seed).counts.min()) >= 1
