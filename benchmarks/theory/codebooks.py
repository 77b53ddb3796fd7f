"""Codebooks of every class, the weights that are compared, and their distances to the data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.theory.points import ClassPoints
from ddoq.quantization import Codebook, quantize, wasserstein2
from ddoq.quantization.codebook import make_codebook
from ddoq.seeding import derive_seed, generator_for

CELLS, UNIFORM, PERMUTED, ONLINE = "cells", "uniform", "permuted", "online"
ALL_POINTS = "all"  # the codebook of as many centroids as points


def make_codebooks(points: Sequence[ClassPoints], method: str, k: int, seed: int) -> list[Codebook]:
    """Quantise every class.

    Args:
        points: A class each.
        method: Of :func:`ddoq.quantization.quantize`, at its defaults; :data:`ALL_POINTS` takes the points themselves.
        k: Centroids a class; without meaning for :data:`ALL_POINTS`.
        seed: Of the repetition.

    Returns:
        One codebook a class.
    """
    if method == ALL_POINTS:
        return [quantize(part.train, len(part.train), method="random") for part in points]
    return [
        quantize(part.train, k, method=method, seed=derive_seed(seed, "theory", method, k, label))
        for label, part in enumerate(points)
    ]


def weightings(books: Sequence[Codebook], seed: int) -> dict[str, list[Tensor]]:
    """Return the weights that are compared, for every class; they sum to 1.

    Args:
        books: One a class, all by the same method.
        seed: Of the repetition; decides the permutation.

    Returns:
        float64 ``(k,)`` on the CPU for every class, by name: ``cells`` (masses of the Voronoi cells), ``uniform``,
        ``permuted`` (the masses in random order, a control) and ``online`` where the method counts while it learns.
    """
    cells = [_shares(book.counts) for book in books]
    shares = {
        CELLS: cells,
        UNIFORM: [torch.full_like(part, 1 / len(part)) for part in cells],
        PERMUTED: [
            part[
                torch.randperm(
                    len(part), generator=generator_for(seed, "theory", "permuted", len(part), label)
                )
            ]
            for label, part in enumerate(cells)
        ],
    }
    online = [book.online_counts for book in books if book.online_counts is not None]
    if len(online) == len(books) and all(bool(counts.any()) for counts in online):
        shares[ONLINE] = [_shares(counts) for counts in online]
    return shares


def _shares(counts: Tensor) -> Tensor:
    exact = counts.cpu().double()
    return exact / exact.sum()


def describe_codebooks(
    points: Sequence[ClassPoints],
    books: Sequence[Codebook],
    shares: Mapping[str, Sequence[Tensor]],
) -> dict[str, Any]:
    r"""Measure codebooks: on the points that they were made of and on held-out ones.

    Args:
        points: A class each.
        books: One a class.
        shares: See :func:`weightings`.

    Returns:
        ``distortion`` of every class, ``w2`` (mean over classes) by weighting, each for ``train`` and ``held_out``;
        ``effective``, the mean effective number of centroids :math:`1 / \\sum_k w_k^2` by weighting.
    """
    held_out = [
        make_codebook(part.held_out, book.centroids).distortion
        for part, book in zip(points, books, strict=True)
    ]
    w2: dict[str, dict[str, float]] = {"train": {}, "held_out": {}}
    for name, weights in shares.items():
        triples = list(zip(points, books, weights, strict=True))
        w2["train"][name] = _mean(
            math.sqrt(book.distortion) if name == CELLS else wasserstein2(part.train, book, share)
            for part, book, share in triples
        )
        if name != PERMUTED:
            w2["held_out"][name] = _mean(
                wasserstein2(part.held_out, book, share) for part, book, share in triples
            )
    return {
        "distortion": {"train": [book.distortion for book in books], "held_out": held_out},
        "w2": w2,
        "effective": {
            name: _mean(1 / float(share.square().sum()) for share in weights)
            for name, weights in shares.items()
        },
    }


def _mean(values: Any) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)
