"""Lloyd's iterations by faiss, settled to the same convergence as our own."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ddoq.errors import UserError
from ddoq.quantization.assignment import nearest
from ddoq.quantization.codebook import Codebook, make_codebook
from ddoq.quantization.lloyd import settle
from ddoq.seeding import derive_seed

log = logging.getLogger(__name__)
ITERATIONS = (
    25  # faiss's own default; it has no test of convergence, so the rest is left to `settle`
)


def faiss_lloyd(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    restarts: int = 1,
    max_iterations: int = 300,
    tolerance: float = 0.0,
) -> Codebook:
    """Quantise by ``faiss.Kmeans`` with k-means++ seeds, then settle the result.

    faiss runs on the GPU on which the points are, if its GPU build is installed, else on the CPU.

    Args:
        points: float32 ``(n, d)``, finite.
        k: Number of centroids, at most n.
        seed: Decides the seeds.
        restarts: Passed on as ``nredo``.
        max_iterations: Limit of iterations, at most 25 of which are faiss's.
        tolerance: 0 runs to convergence; otherwise faiss's iterations suffice.

    Returns:
        The codebook.

    Raises:
        UserError: If faiss is missing.
    """
    faiss = _import_faiss()
    mean = points.double().mean(0).float()
    options = {
        "niter": max(1, min(ITERATIONS, max_iterations)),
        "nredo": restarts,
        "seed": derive_seed(seed, "faiss") % 2**31,
        # By default faiss keeps only 256 points per centroid, without a word, and warns below 39.
        "max_points_per_centroid": len(points),
        "min_points_per_centroid": 1,
    }
    if hasattr(faiss, "ClusteringInitMethod_KMEANS_PLUS_PLUS"):  # faiss >= 1.14
        options["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    kmeans = make_kmeans(faiss, points.shape[1], k, points.device, options)
    kmeans.train((points - mean).cpu().numpy())
    centroids = torch.from_numpy(kmeans.centroids).to(points.device) + mean
    rounds = max_iterations - ITERATIONS if tolerance == 0 else 1
    labels = nearest(points, centroids)
    empty = torch.bincount(labels, minlength=k) == 0
    if bool(empty.any()):
        # faiss fills an empty cell with a shifted copy of another centroid; stay with points of the data.
        centroids[empty] = points[nearest(centroids[empty], points)]
    centroids = settle(points, labels, centroids, max(1, rounds), warn=tolerance == 0)
    return make_codebook(points, centroids)


def make_kmeans(
    faiss: Any, d: int, k: int, device: torch.device, options: Mapping[str, Any]
) -> Any:
    """Make a ``faiss.Kmeans`` that searches on a device.

    Args:
        faiss: The module.
        d: Dimensions of the points.
        k: Number of centroids.
        device: A GPU, if faiss has been built for any; otherwise it searches on the CPU.
        options: Further arguments.
    """
    kmeans = faiss.Kmeans(d, k, **options)
    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    on_gpu = device.type == "cuda" and gpus > 0
    if on_gpu:  # its own argument `gpu` counts GPUs from the first on
        resources = faiss.StandardGpuResources()
        kmeans.index = faiss.index_cpu_to_gpu(resources, device.index, kmeans.index)
    log.info("faiss %s clusters on %s", faiss.__version__, device if on_gpu else "the CPU")
    return kmeans


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "backend 'faiss' needs faiss, which cannot be imported. Install ddoq-bench[cpu] or ddoq-bench[gpu] "
            "(never both), or set backend: torch."
        ) from error
    return faiss
