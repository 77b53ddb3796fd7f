"""One entrance to all quantisers."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ddoq.errors import UserError, suggest
from ddoq.quantization.assignment import block_rows, full_precision
from ddoq.quantization.clvq import BATCH_SIZE, clvq
from ddoq.quantization.codebook import Codebook, check_points
from ddoq.quantization.d4m import d4m
from ddoq.quantization.faiss_backend import faiss_lloyd
from ddoq.quantization.lloyd import lloyd
from ddoq.quantization.selection import medoid, random
from ddoq.seeding import derive_seed, generator_for

METHODS = ("lloyd", "clvq", "d4m", "random", "medoid")
BACKENDS = ("torch", "faiss")


def quantize(
    points: Tensor,
    k: int,
    *,
    method: str = "lloyd",
    seed: int = 0,
    restarts: int = 1,
    backend: str = "torch",
    passes: int = 1,
    batch_size: int | None = None,
    chunk: int | None = None,
    drop_last: bool = True,
    max_iterations: int = 300,
    tolerance: float = 0.0,
) -> Codebook:
    """Represent n points by k centroids of small distortion.

    The result depends on the points and the seed, not on the order of the points: they are put into an order of
    their own first. Equal seeds give equal results on one kind of device; another device or thread count
    rounds differently, which can tip ties.

    ``k == n`` gives every point itself, with counts of 1. With fewer than k distinct points some centroids are
    equal (for ``clvq`` and ``d4m`` up to rounding): one of them has the whole cell, the others count 0.

    Args:
        points: Float tensor ``(n, d)``, on any device; computed in float32.
        k: Number of centroids, 1 to n.
        method: ``lloyd`` (k-means to convergence), ``clvq`` (online k-means), ``d4m`` (as the official D4M),
            ``random`` (points at random) or ``medoid`` (the points nearest to the centroids of ``lloyd``).
        seed: Decides everything random.
        restarts: Independent starts, of which the one of least distortion is kept; for ``medoid`` that is the
            distortion of the centroids, before they are replaced by points.
        backend: ``torch`` or ``faiss``, for ``lloyd`` and ``medoid``.
        passes: Passes over the points, for ``clvq``.
        batch_size: Points a batch, for ``clvq``; None is 64.
        chunk: Points per partial fit, k to n, for ``d4m``; None is k.
        drop_last: Whether ``d4m`` leaves out an incomplete last chunk, as the official code does.
        max_iterations: Limit of iterations, for ``lloyd`` and ``medoid``.
        tolerance: Relative decrease of distortion at which ``lloyd`` and ``medoid`` stop; 0 runs until no point
            changes its cell.

    Returns:
        The codebook, on the device of the points. ``counts`` are the exact sizes of the Voronoi cells.

    Raises:
        UserError: If points or settings are unusable.

    Example:
        >>> book = quantize(torch.tensor([[0.0], [1.0], [9.0]]), 2)
        >>> sorted(zip(book.centroids.flatten().tolist(), book.counts.tolist()))
        [(0.5, 2), (9.0, 1)]
    """
    points = check_points(points)
    check_settings(len(points), k, method, restarts, backend, max_iterations, tolerance)
    check_specific(len(points), k, method, passes, batch_size, chunk, drop_last)
    if k == len(points):
        return every_point(points, method)
    if method in ("lloyd", "medoid"):
        run = partial(_lloyd, method, backend, max_iterations=max_iterations, tolerance=tolerance)
    else:
        run = partial(_best_of, _single_start(method, passes, batch_size, chunk, drop_last))
    with full_precision():
        order = canonical_order(points)
        book = run(points[order], k, seed=seed, restarts=restarts)
    return book if book.indices is None else replace(book, indices=order[book.indices])


def _lloyd(method: str, backend: str, points: Tensor, k: int, **settings: Any) -> Codebook:
    """Run Lloyd's iterations, which choose among their starts; for ``medoid``, take points for centroids at last."""
    book = (faiss_lloyd if backend == "faiss" else lloyd)(points, k, **settings)
    return medoid(points, book) if method == "medoid" else book


def _single_start(
    method: str, passes: int, batch_size: int | None, chunk: int | None, drop_last: bool
) -> Callable[..., Codebook]:
    """Return a method that starts once, with its settings."""
    starts: dict[str, Callable[..., Codebook]] = {
        "clvq": partial(clvq, passes=passes, batch_size=batch_size or BATCH_SIZE),
        "d4m": partial(d4m, chunk=chunk, drop_last=drop_last),
        "random": random,
    }
    return starts[method]


def _best_of(
    start: Callable[..., Codebook], points: Tensor, k: int, *, seed: int, restarts: int
) -> Codebook:
    """Keep the start of least distortion."""
    books = (start(points, k, seed=derive_seed(seed, n)) for n in range(restarts))
    return min(books, key=lambda book: book.distortion)


def canonical_order(points: Tensor) -> Tensor:
    """Sort points by their projection on a fixed direction, so that their order cannot matter.

    Args:
        points: float32 ``(n, d)``.

    Returns:
        int64 ``(n,)``.
    """
    direction = torch.randn(
        points.shape[1], dtype=torch.float64, generator=generator_for(0, "order")
    )
    direction = direction.to(points.device)
    rows = block_rows(points.device, points.shape[1])
    return torch.cat([block.double() @ direction for block in points.split(rows)]).argsort(
        stable=True
    )


def every_point(points: Tensor, method: str) -> Codebook:
    """Return the codebook of as many centroids as points."""
    ones = torch.ones(len(points), dtype=torch.int64, device=points.device)
    positions = torch.arange(len(points), device=points.device)
    return Codebook(
        points.clone(),
        ones,
        0.0,
        indices=positions if method in ("random", "medoid") else None,
        online_counts=ones.clone() if method in ("clvq", "d4m") else None,
    )


def check_settings(
    n: int, k: int, method: str, restarts: int, backend: str, max_iterations: int, tolerance: float
) -> None:
    """Refuse impossible values of what all methods share."""
    if method not in METHODS:
        raise UserError(f"Unknown method {method!r}. {suggest(method, METHODS)}")
    if backend not in BACKENDS:
        raise UserError(f"Unknown backend {backend!r}. {suggest(backend, BACKENDS)}")
    if backend != "torch" and method not in ("lloyd", "medoid"):
        raise UserError(
            f"backend '{backend}' belongs to methods 'lloyd' and 'medoid'; '{method}' needs backend: torch."
        )
    for name, value in (("k", k), ("restarts", restarts), ("max_iterations", max_iterations)):
        check_positive(name, value)
    if k > n:
        raise UserError(f"k is {k}, but the class has only {n} points. Lower the images per class.")
    if not 0 <= tolerance < math.inf:
        raise UserError(f"tolerance must be finite and not negative, not {tolerance}.")


def check_specific(
    n: int,
    k: int,
    method: str,
    passes: int,
    batch_size: int | None,
    chunk: int | None,
    drop_last: bool,
) -> None:
    """Refuse settings that are impossible, or that another method would have heeded."""
    check_online(method, passes, batch_size)
    if method != "d4m" and (chunk is not None or not drop_last):
        raise UserError(f"chunk and drop_last belong to method 'd4m'; '{method}' has neither.")
    if chunk is not None:
        check_positive("chunk", chunk)
        if not k <= chunk <= n:
            raise UserError(
                f"chunk is {chunk}, but must lie between k ({k}) and the class's {n} points. "
                "Change km_expand or the images per class."
            )


def check_online(method: str, passes: int, batch_size: int | None) -> None:
    """Refuse impossible settings of ``clvq``, and any of them for another method."""
    check_positive("passes", passes)
    if batch_size is not None:
        check_positive("batch_size", batch_size)
    if method != "clvq" and (passes != 1 or batch_size is not None):
        raise UserError(f"passes and batch_size belong to method 'clvq'; '{method}' has neither.")


def check_positive(name: str, value: int) -> None:
    """Refuse all but integers from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be an integer of at least 1, not {value!r}.")
