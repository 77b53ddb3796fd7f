import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization import METHODS, quantize, wasserstein2

gpu = pytest.mark.gpu
without_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("method", METHODS)
def test_types_shapes_and_sums(method, cloud):
    book = quantize(cloud(120, 6), 10, method=method)
    assert book.centroids.shape == (10, 6)
    assert book.centroids.dtype == torch.float32
    assert book.counts.dtype == torch.int64
    assert int(book.counts.sum()) == 120
    assert (book.indices is not None) == (method in ("random", "medoid"))
    assert (book.online_counts is not None) == (method in ("clvq", "d4m"))


@pytest.mark.parametrize("method", ["lloyd", "clvq"])
@pytest.mark.parametrize("d", [1, 7, 300])
def test_one_centroid_is_the_mean(method, d, cloud):
    points = cloud(100, d)
    book = quantize(points, 1, method=method)
    torch.testing.assert_close(book.centroids[0], points.mean(0))
    assert book.counts.tolist() == [100]
    assert book.distortion == pytest.approx(float(points.double().var(0, correction=0).sum()))


@pytest.mark.parametrize("method", METHODS)
def test_one_centroid_per_point_is_every_point(method, cloud):
    points = cloud(20, 3)
    book = quantize(points, 20, method=method)
    assert torch.equal(book.centroids, points)
    assert book.counts.tolist() == [1] * 20
    assert book.distortion == 0


@pytest.mark.parametrize("method", METHODS)
def test_one_point(method):
    book = quantize(torch.tensor([[2.0, 3.0]]), 1, method=method)
    assert book.centroids.tolist() == [[2.0, 3.0]]
    assert book.counts.tolist() == [1]


@pytest.mark.parametrize("method", METHODS)
def test_equal_points_share_a_cell(method):
    book = quantize(torch.full((30, 4), 1.7), 3, method=method)
    torch.testing.assert_close(book.centroids, torch.full((3, 4), 1.7))
    if method in ("clvq", "d4m"):  # rounding of their running means decides which copy is nearest
        assert sorted(book.counts.tolist()) == [0, 0, 30]
    else:
        assert book.counts.tolist() == [30, 0, 0]
    assert book.distortion < 1e-12


@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_fewer_distinct_points_than_centroids(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    points = torch.tensor([[0.0, 1.0], [5.0, 2.0], [9.0, 9.0]]).repeat(20, 1)
    book = quantize(points, 7, backend=backend)
    assert book.distortion == pytest.approx(0, abs=1e-10)
    assert int(book.counts.sum()) == 60
    distinct = {tuple(round(v, 4) for v in row) for row in book.centroids.tolist()}
    assert distinct == {(0.0, 1.0), (5.0, 2.0), (9.0, 9.0)}


@pytest.mark.parametrize("method", METHODS)
def test_seeds_repeat_and_differ(method, cloud):
    points = cloud(200, 8, modes=1)
    first, again, other = (quantize(points, 12, method=method, seed=s) for s in (5, 5, 6))
    assert torch.equal(first.centroids, again.centroids)
    assert torch.equal(first.counts, again.counts)
    assert not torch.equal(first.centroids, other.centroids)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [4, 300])
def test_order_of_the_points_does_not_matter(method, d, cloud):
    points = cloud(150, d)
    shuffle = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    book, shuffled = (quantize(p, 8, method=method, restarts=2) for p in (points, points[shuffle]))
    assert torch.equal(book.centroids, shuffled.centroids)
    assert torch.equal(book.counts, shuffled.counts)
    if book.indices is not None:
        assert torch.equal(book.indices, shuffle[shuffled.indices])


@pytest.mark.parametrize("method", [method for method in METHODS if method != "medoid"])
def test_restarts_never_hurt(method, cloud):
    points = cloud(150, 3)
    losses = [quantize(points, 9, method=method, restarts=r).distortion for r in (1, 3, 9)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_computed_in_float32(dtype, cloud):
    points = cloud().to(dtype)
    assert torch.equal(quantize(points, 6).centroids, quantize(points.float(), 6).centroids)


@pytest.mark.parametrize("method", METHODS)
def test_input_stays_and_autocast_is_ignored(method, cloud):
    points = cloud(100, 5).requires_grad_()
    before = points.detach().clone()
    book = quantize(points, 6, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = quantize(points, 6, method=method)
    assert torch.equal(points, before)
    assert not book.centroids.requires_grad
    assert torch.equal(book.centroids, same.centroids)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 201}, r"k is 201, but the class has only 200 points"),
        ({"k": 0}, "k must be an integer of at least 1"),
        ({"k": -2}, "not -2"),
        ({"k": 2.0}, r"not 2\.0"),
        ({"k": True}, "not True"),
        ({"method": "loyd"}, "Did you mean 'lloyd'"),
        ({"backend": "fais"}, "Did you mean 'faiss'"),
        ({"backend": "faiss", "method": "clvq"}, "backend: torch"),
        ({"restarts": 0}, "restarts must be"),
        ({"max_iterations": 0}, "max_iterations must be"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"method": "clvq", "passes": 0}, "passes must be"),
        ({"method": "clvq", "batch_size": 0}, "batch_size must be"),
        ({"batch_size": 8}, "belong to method 'clvq'"),
        ({"passes": 2, "method": "d4m"}, "belong to method 'clvq'"),
        ({"chunk": 8}, "belong to method 'd4m'"),
        ({"drop_last": False}, "belong to method 'd4m'"),
        ({"method": "d4m", "chunk": 4}, r"between k \(5\) and the class's 200 points"),
        ({"method": "d4m", "chunk": 201}, "km_expand"),
    ],
)
def test_unusable_settings_are_refused(settings, words, cloud):
    with pytest.raises(UserError, match=words):
        quantize(cloud(), **({"k": 5} | settings))


@pytest.mark.parametrize("method", METHODS)
def test_unusable_points_are_refused(method):
    with pytest.raises(UserError, match="1 of 3 points"):
        quantize(torch.tensor([[1.0], [float("nan")], [2.0]]), 1, method=method)


@gpu
@without_gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(400, 6), (150, 700)])
def test_gpu_agrees_with_cpu_and_repeats(method, n, d, cloud):
    points = cloud(n, d)
    torch.set_float32_matmul_precision("medium")
    try:
        cpu = quantize(points, 10, method=method)
        one, two = (quantize(points.cuda(), 10, method=method) for _ in range(2))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert one.centroids.is_cuda
    assert torch.equal(one.centroids, two.centroids)
    assert torch.equal(one.counts, two.counts)
    assert one.distortion == pytest.approx(cpu.distortion, rel=1e-3)
    uniform = torch.ones(10, device="cuda")
    assert wasserstein2(points.cuda(), one, uniform) == pytest.approx(
        wasserstein2(points, cpu, torch.ones(10)), rel=1e-2
    )


@pytest.mark.parametrize("method", ["lloyd", "clvq", "d4m", "medoid"])
def test_a_trainer_around_it_changes_no_bit(cloud, method):
    points = cloud(60, 4)
    expected = quantize(points, 5, method=method)
    for default in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(default)
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                book = quantize(points, 5, method=method)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(book.centroids, expected.centroids)
        assert book.distortion == expected.distortion
