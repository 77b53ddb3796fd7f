import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddoq.errors import UserError
from ddoq.quantization import quantize
from ddoq.quantization.assignment import nearest
from ddoq.quantization.faiss_backend import make_kmeans


def test_agrees_with_torch(cloud):
    pytest.importorskip("faiss")
    ratios = []
    for seed in range(10):
        points = cloud(400, 6, seed=seed)
        faiss, ours = (
            quantize(points, 10, seed=seed, restarts=8, backend=name).distortion
            for name in ("faiss", "torch")
        )
        ratios.append(faiss / ours)
    assert float(np.mean(ratios)) == pytest.approx(1, abs=0.01)


def test_separated_clusters_give_the_same_codebook():
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    points = 100 * torch.eye(6).repeat(40, 1) + torch.randn(240, 6, generator=generator)
    faiss, ours = (
        quantize(points, 6, restarts=5, backend=name).centroids for name in ("faiss", "torch")
    )
    torch.testing.assert_close(faiss[faiss.argmax(1).argsort()], ours[ours.argmax(1).argsort()])


def test_faiss_is_given_every_point(monkeypatch, cloud):
    # By default it keeps 256 points a cell in silence, and settling afterwards would hide that.
    faiss = pytest.importorskip("faiss")
    made = []

    class Recorded(faiss.Kmeans):
        def __init__(self, d, k, **options):
            made.append(options)
            super().__init__(d, k, **options)

    monkeypatch.setattr(faiss, "Kmeans", Recorded)
    quantize(cloud(900), 2, seed=1, restarts=3, backend="faiss")
    assert made[0]["max_points_per_centroid"] * 2 >= 900
    assert made[0]["min_points_per_centroid"] == 1
    assert made[0]["nredo"] == 3


def test_converges_and_repeats(cloud):
    pytest.importorskip("faiss")
    points = cloud(1500, 3)
    book, again = (quantize(points, 20, seed=4, backend="faiss") for _ in range(2))
    labels = nearest(points, book.centroids)
    means = torch.stack([points[labels == cell].double().mean(0) for cell in range(20)])
    assert torch.equal(book.centroids, means.float())
    assert torch.equal(book.centroids, again.centroids)


def test_says_how_to_install(monkeypatch, cloud):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match=r"ddoq-bench\[cpu\].*backend: torch"):
        quantize(cloud(), 3, backend="faiss")


class FakeIndex:
    """Stands for an index of faiss, and says on which GPU it is."""

    gpu = None


def fake_faiss(gpus):
    """Make the part of a GPU build that is asked for; there is none to be had without a GPU."""

    class Kmeans:
        def __init__(self, d, k, gpu=False, **options):
            assert not gpu  # it counts GPUs from the first on
            self.index = FakeIndex()

    def index_cpu_to_gpu(resources, number, index):
        assert resources == "resources"
        index.gpu = number
        return index

    module = SimpleNamespace(Kmeans=Kmeans, __version__="0", get_num_gpus=lambda: gpus)
    module.StandardGpuResources = lambda: "resources"
    module.index_cpu_to_gpu = index_cpu_to_gpu
    return module


@pytest.mark.parametrize(
    ("place", "gpus", "taken"),
    [("cuda:0", 2, 0), ("cuda:1", 2, 1), ("cuda:1", 0, None), ("cpu", 2, None)],
)
def test_takes_the_gpu_that_the_points_are_on(place, gpus, taken):
    kmeans = make_kmeans(fake_faiss(gpus), 3, 2, torch.device(place), {"niter": 1})
    assert kmeans.index.gpu == taken


def test_a_build_without_gpus_has_no_resources():
    module = fake_faiss(0)
    del module.StandardGpuResources, module.get_num_gpus
    assert make_kmeans(module, 3, 2, torch.device("cuda:1"), {}).index.gpu is None
