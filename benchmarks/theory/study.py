"""A study from its parts to its record: cells that are measured once, kept, and gathered."""

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.results.records import now
from benchmarks.run.bench import Bench
from benchmarks.theory.codebooks import (
    ALL_POINTS,
    UNIFORM,
    describe_codebooks,
    make_codebooks,
    weightings,
)
from benchmarks.theory.decoding import CentroidDecoder
from benchmarks.theory.options import DIFFUSION, LATENTS, MAPS, REAL, VAE, TheoryOptions
from benchmarks.theory.points import load_points
from benchmarks.theory.probes import Probe, RealData, image_network, latent_network, map_network
from benchmarks.theory.record import FORMAT, KIND, read_record, write_record
from ddoq.console import Progress, say
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.latents.quantization import LatentQuantization
from ddoq.quantization import wasserstein2
from ddoq.quantization.codebook import Codebook
from ddoq.quantization.dimension import FEWEST, levina_bickel, two_nn
from ddoq.storage.damage import read_or_set_aside
from ddoq.storage.files import read_sealed, write_sealed
from ddoq.storage.fingerprints import hash_config
from ddoq.storage.provenance import provenance
from ddoq.storage.run_folder import RunFolder

_DIGITS = 6  # significant ones of a stored number


def method_of(bench: Bench) -> LatentQuantization:
    """Return the method of a configuration.

    Raises:
        UserError: If it does not quantise latents.
    """
    if not isinstance(bench.distiller, LatentQuantization):
        given = "no method" if bench.distiller is None else f"'{bench.distiller.method}'"
        raise UserError(
            f"The theory is of methods that quantise latents, but the configuration names {given}: give one such as "
            "configs/methods/ddoq.yaml."
        )
    return bench.distiller


class TheoryStudy:
    """All that is measured for one dataset and prior.

    A cell is a seed, a quantiser and a number of centroids; it is kept in a file of its own, so that a run that was
    killed goes on where it was. Seeds decide quantisers, permutations, noise, and the students.

    Args:
        bench: The parts of a configuration.
        options: What is measured.
    """

    def __init__(self, bench: Bench, options: TheoryOptions) -> None:
        self.options = options
        self.method = method_of(bench)
        self.data = bench.dataset
        if options.decode:  # before minutes of training
            image_network(options.arch, self.data.num_classes, self.data.image_size, 0)
        self.method.check(self.data)
        self.device = bench.trainer.strategy.root_device
        self.seeds = list(bench.seeds)
        self.prior = bench.prior().to(self.device).eval()
        self.method.attach(self.data, prior=self.prior)
        self._decoder = CentroidDecoder(self.data, self.prior, self.method)
        self._run = RunFolder(bench.output)
        self.points = load_points(
            self.data, self.prior, self.method, bench.output, options.points, self.device
        )
        self.budgets = options.budgets(min(len(part.train) for part in self.points))

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """All that decides the numbers of a cell; its hash names the folder."""
        decode = sorted(self.options.decode)
        how = asdict(self.method.sampling) if DIFFUSION in decode else None
        return {
            "format": FORMAT,
            "data": self.data.normalized_fingerprint,
            "held_out": self.data.test_fingerprint,
            "encoder": self.prior.encoder_fingerprint,
            "prior": self.prior.fingerprint if decode else None,
            "posterior": self.method.posterior,
            "posterior_seed": self.method.seed if self.method.posterior == "sample" else None,
            "stretch": self.method.stretch,
            "points": self.options.points,
            "checkpoints": sorted(self.options.checkpoints),
            "arch": self.options.arch if decode else None,
            "decode": decode,
            "sampling": how,
        }

    @property
    def folder(self) -> Path:
        """Where record, report and cells are."""
        return self._run.theory(hash_config(self.config))

    @property
    def record(self) -> Path:
        """File of the record."""
        return self._run.theory_record(self.folder)

    @property
    def report(self) -> Path:
        """File of the report, unless another is asked for."""
        return self._run.theory_report(self.folder)

    def run(self) -> dict[str, Any]:
        """Measure what is missing, and write the record.

        Returns:
            The record.
        """
        cells = [
            (seed, quantizer, k)
            for seed in self.seeds
            for quantizer in self.options.quantizers
            for k in self.budgets
        ] + [(seed, ALL_POINTS, 0) for seed in self.seeds]
        paths = {cell: self._run.theory_cell(self.folder, *cell) for cell in cells}
        kept = sum(path.is_file() for path in paths.values())
        say(f"theory: {len(cells)} cells, {kept} of them kept in {self.folder}")
        progress = Progress("theory", len(cells), unit="cells", done=kept)
        measured = []
        for cell, path in sorted(paths.items()):
            stored = read_or_set_aside(path, read_sealed)
            if stored is None:
                started = time.perf_counter()
                stored = _rounded(self._measure(*cell))
                stored["seconds"] = time.perf_counter() - started
                write_sealed(path, stored)
                kept += 1
                progress.update(kept)
            measured.append(stored)
        write_record(self.record, self._record(measured))
        return read_record(self.record)

    def _record(self, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "kind": KIND,
            "config": self.config,
            "dataset": self.data.describe(),
            "seeds": self.seeds,
            "budgets": self.budgets,
            "quantizers": list(self.options.quantizers),
            "points": [len(part.train) for part in self.points],
            "held_out_points": [len(part.held_out) for part in self.points],
            "latent_values": self.points[0].train.shape[1],
            "dimension": _rounded(self.dimensions()),
            "lipschitz": _rounded(
                {str(seed): self._latent_probe(seed).lipschitz() for seed in self.seeds}
            ),
            "losses": _rounded(self._losses()),
            "cells": cells,
            "cost": {"seconds": math.fsum(cell["seconds"] for cell in cells)},
            "provenance": provenance(),
            "created": now(),
        }

    def dimensions(self) -> dict[str, list[float] | None]:
        """Estimate the intrinsic dimension of every class; None where one has too few points."""
        sets = [part.train for part in self.points]
        if min(len(torch.unique(latents, dim=0)) for latents in sets) < FEWEST:
            return {"two_nn": None, "levina_bickel": None}
        return {
            "two_nn": [two_nn(latents) for latents in sets],
            "levina_bickel": [levina_bickel(latents) for latents in sets],
        }

    def _losses(self) -> dict[str, dict[str, list[float]]]:
        losses: dict[str, dict[str, list[float]]] = {}
        for seed in self.seeds:
            probes = {LATENTS: self._latent_probe(seed)}
            if (maps := self._map_probe(seed)) is not None:
                probes[MAPS] = maps
            if self.options.decode:
                probes["images"] = self._image_probe(seed)
            losses[str(seed)] = {
                name: [snapshot.loss for snapshot in probe.snapshots]
                for name, probe in probes.items()
            }
        return losses

    def _measure(self, seed: int, quantizer: str, k: int) -> dict[str, Any]:
        books = make_codebooks(self.points, quantizer, k, seed)
        shares = weightings(books, seed)
        if quantizer == ALL_POINTS:
            shares = {UNIFORM: shares[UNIFORM]}
        centroids = [book.centroids for book in books]
        gaps = {LATENTS: self._latent_probe(seed).gaps(centroids, shares)}
        if (maps := self._map_probe(seed)) is not None:
            gaps[MAPS] = maps.gaps(centroids, shares)
        if self.options.decode:
            probe = self._image_probe(seed)
            for how, images in self._images(books, quantizer, seed).items():
                gaps[how] = probe.gaps(images, shares)
        described = (
            {"w2_held_out": self._floor()}
            if quantizer == ALL_POINTS
            else describe_codebooks(self.points, books, shares)
        )
        return {"seed": seed, "quantizer": quantizer, "ipc": k, **described, "gaps": gaps}

    def _images(
        self, books: Sequence[Codebook], quantizer: str, seed: int
    ) -> dict[str, list[Tensor]]:
        """Return the images of centroids, and the real images where the centroids are latents of these."""
        if quantizer == ALL_POINTS:  # what decoding alone costs; of diffusion it would take hours
            return {VAE: self._reconstructions()} if VAE in self.options.decode else {}
        images = {
            how: self._decoder.decode(how, [book.centroids for book in books], seed)
            for how in self.options.decode
        }
        indices = [book.indices for book in books]
        chosen = [
            self._real_images[label][index]
            for label, index in enumerate(indices)
            if index is not None
        ]
        return {**images, **({REAL: chosen} if len(chosen) == len(books) else {})}

    @functools.cache  # noqa: B019 - a study lives as long as its process
    def _reconstructions(self) -> list[Tensor]:
        return self._decoder.decode(VAE, [part.train for part in self.points], 0)

    @functools.cache  # noqa: B019
    def _floor(self) -> float:
        """Mean distance of held-out to training latents: what a quantiser could reach with all of them."""
        ones = [torch.ones(len(part.train)) for part in self.points]
        return math.fsum(
            wasserstein2(part.held_out, Codebook(part.train, one.long(), 0.0), one)
            for part, one in zip(self.points, ones, strict=True)
        ) / len(ones)

    @functools.cached_property
    def _real_images(self) -> list[Tensor]:
        return [
            self.data.train.load(part.positions.tolist()).to(self.device) for part in self.points
        ]

    @functools.cache  # noqa: B019
    def _latent_probe(self, seed: int) -> Probe:
        real = RealData([part.train for part in self.points], lambda latents: latents)
        network = latent_network(real.classes[0].shape[1], len(real.classes), seed)
        return Probe(
            network.to(self.device), real, self.options.checkpoints, seed, LATENTS, by_class=True
        )

    @functools.cache  # noqa: B019
    def _map_probe(self, seed: int) -> Probe | None:
        shape = self.prior.latent_shape
        network = map_network(shape, len(self.points), seed)
        if network is None:
            return None
        real = RealData([part.train for part in self.points], lambda x: x.reshape(-1, *shape))
        return Probe(network.to(self.device), real, self.options.checkpoints, seed, MAPS)

    @functools.cache  # noqa: B019
    def _image_probe(self, seed: int) -> Probe:
        mean, std = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in (self.data.mean, self.data.std)
        )
        real = RealData(self._real_images, lambda images: (to_float(images) - mean) / std)
        network = image_network(
            self.options.arch, self.data.num_classes, self.data.image_size, seed
        )
        return Probe(network.to(self.device), real, self.options.checkpoints, seed, "images")


def _rounded(value: Any) -> Any:
    """Keep the digits that mean something, wherever a number stands."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
