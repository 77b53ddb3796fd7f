import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from ddoq.quantization import quantize
from ddoq.quantization.d4m import d4m, partial_fits
from ddoq.seeding import derive_seed, generator_for


@pytest.mark.parametrize("expand", [1, 3, 10])
@pytest.mark.parametrize("drop_last", [True, False])
def test_equals_partial_fit_after_every_chunk(expand, drop_last, cloud):
    k = 6
    points, chunk = cloud(203, 9).numpy(), expand * k
    # The constructor of the official script, word for word.
    reference = MiniBatchKMeans(n_clusters=k, random_state=0, batch_size=expand * k, n_init="auto")
    buffer = []
    for number, point in enumerate(points, start=1):
        buffer.append(point)
        if len(buffer) == chunk or (number == len(points) and not drop_last):
            reference.partial_fit(np.stack(buffer))
            buffer = []
            if number % chunk == 0:
                centroids, counts = partial_fits(points[:number], k, chunk, 0, drop_last=True)
                np.testing.assert_array_equal(centroids, reference.cluster_centers_)
                np.testing.assert_array_equal(counts, reference._counts)
    centroids, _ = partial_fits(points, k, chunk, 0, drop_last=drop_last)
    np.testing.assert_array_equal(centroids, reference.cluster_centers_)
    assert bool(buffer) == drop_last


def test_seed_decides_order_and_state(cloud):
    points = cloud(120, 4)
    book = d4m(points, 5, seed=3, chunk=10)
    order = torch.randperm(120, generator=generator_for(3, "d4m"))
    state = derive_seed(3, "d4m", "random_state") % 2**32
    reference = MiniBatchKMeans(5, random_state=state, batch_size=10, n_init="auto")
    for part in points[order].split(10):
        reference.partial_fit(part.numpy())
    assert torch.equal(book.centroids, torch.from_numpy(reference.cluster_centers_))
    assert not torch.equal(book.centroids, d4m(points, 5, seed=4, chunk=10).centroids)


def test_default_chunk_is_k(cloud):
    points = cloud(100)
    default, explicit = d4m(points, 7), d4m(points, 7, chunk=7)
    assert torch.equal(default.centroids, explicit.centroids)


def test_a_first_chunk_alone_is_its_own_codebook(cloud):
    points = cloud(9)
    centroids, counts = partial_fits(points[:5].numpy(), 5, 5, 0, drop_last=True)
    np.testing.assert_allclose(sorted(centroids.tolist()), sorted(points[:5].tolist()), rtol=1e-6)
    assert counts.tolist() == [1] * 5


def test_counts_follow_what_was_fitted(cloud):
    points = cloud(103, modes=1)
    # With three centroids of similar size none is reassigned, so that every fitted point counts once.
    dropped = quantize(points, 3, method="d4m", chunk=25)
    flushed = quantize(points, 3, method="d4m", chunk=25, drop_last=False)
    assert int(dropped.online_counts.sum()) == 100
    assert int(flushed.online_counts.sum()) == 103
    assert int(dropped.counts.sum()) == int(flushed.counts.sum()) == 103
