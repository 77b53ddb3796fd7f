"""What the official D4M does: one pass of scikit-learn's MiniBatchKMeans, chunk by chunk."""

import numpy as np
import torch
from torch import Tensor

from ddoq.quantization.codebook import Codebook, make_codebook
from ddoq.seeding import derive_seed, generator_for


def d4m(
    points: Tensor,
    k: int,
    *,
    seed: int = 0,
    chunk: int | None = None,
    drop_last: bool = True,
) -> Codebook:
    """Quantise by one ``partial_fit`` per chunk of shuffled points.

    The official code buffers ``km_expand * k`` points of a class, fits them, and clears the buffer. It never
    fits what is left in the buffers at the end, except for the one class of the last sample.

    Source: official repository suduo94/D4M at da35d10. Its shuffling is unseeded and its ``random_state``
    always 0; here ``seed`` decides both.

    Args:
        points: float32 ``(n, d)``, finite.
        k: Number of centroids, at most n.
        seed: Decides the order and scikit-learn's ``random_state``.
        chunk: Points per ``partial_fit``, between k and n; None is k, as in the official ImageNet script.
        drop_last: Leave an incomplete last chunk out, as the official code does; False fits it too.

    Returns:
        The codebook with scikit-learn's counts as ``online_counts``. These do not sum to the number of
        points where scikit-learn has reassigned rarely used centroids.
    """
    order = torch.randperm(len(points), generator=generator_for(seed, "d4m"))
    shuffled = points[order.to(points.device)].cpu().numpy()
    state = derive_seed(seed, "d4m", "random_state") % 2**32
    centroids, counts = partial_fits(shuffled, k, chunk or k, state, drop_last=drop_last)
    return make_codebook(
        points,
        torch.from_numpy(centroids).to(points.device),
        online_counts=torch.from_numpy(counts).round().long().to(points.device),
    )


def partial_fits(
    points: np.ndarray, k: int, chunk: int, random_state: int, *, drop_last: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Fit chunks in the given order.

    Args:
        points: float32 ``(n, d)``.
        k: Number of centroids.
        chunk: Points per ``partial_fit``.
        random_state: Seed of the estimator.
        drop_last: Whether to leave out an incomplete last chunk.

    Returns:
        Centroids ``(k, d)`` and counts ``(k,)``, both float32.
    """
    from sklearn.cluster import MiniBatchKMeans

    # Labels of a chunk are never looked at: without them a fit takes half the time.
    kmeans = MiniBatchKMeans(
        k, random_state=random_state, batch_size=chunk, n_init="auto", compute_labels=False
    )
    stop = len(points) - len(points) % chunk if drop_last else len(points)
    for start in range(0, stop, chunk):
        kmeans.partial_fit(points[start : start + chunk])
    # scikit-learn keeps the counts in no public attribute.
    return kmeans.cluster_centers_.copy(), kmeans._counts.copy()
