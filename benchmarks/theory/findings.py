"""What a record shows: fitted rates, contrasts between weights, and what distances say of gaps."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from benchmarks.statistics.comparison import Difference, paired_difference
from benchmarks.theory.codebooks import ALL_POINTS, CELLS, ONLINE, PERMUTED, UNIFORM
from benchmarks.theory.options import DIFFUSION, LATENTS, MAPS, REAL, VAE
from ddoq.quantization.rates import PowerLaw, fit_power_law

LEAST_PER_CELL = (
    5  # points a centroid: with fewer, centroids begin to be the points, and no rate is left to see
)

Place = tuple[str, int]  # space and training step
Kind = tuple[str, str]  # quantiser and weighting


@dataclass(frozen=True)
class Contrast:
    """The gap of one kind of set over that of another, as a mean logarithm over numbers of centroids.

    Attributes:
        place: Space and step.
        first: Quantiser and weighting.
        second: Quantiser and weighting.
        second_space: Space of the second, where it is another.
        difference: Of logarithms, over seeds.
        adjusted: p-value corrected for all contrasts of a list; None with one seed.
    """

    place: Place
    first: Kind
    second: Kind
    second_space: str
    difference: Difference
    adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """Say what the corrected p-value allows to say at 5 %."""
        if self.difference.p_value is None or self.adjusted is None:
            return "one seed: nothing can be said"
        if self.adjusted >= 0.05:
            return "no difference shown"
        return "smaller" if self.difference.mean < 0 else "larger"


class Measurements:
    """A record, by what is looked up in it.

    Args:
        record: See :mod:`benchmarks.theory.record`.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self._gap_rates: dict[tuple[Place, Kind], Difference | None] = {}
        self.seeds: list[int] = list(record["seeds"])
        self.budgets: list[int] = list(record["budgets"])
        self.quantizers: list[str] = list(record["quantizers"])
        self.cells: dict[tuple[int, str, int], Mapping[str, Any]] = {
            (cell["seed"], cell["quantizer"], cell["ipc"]): cell for cell in record["cells"]
        }
        first = self.cells[self.seeds[0], self.quantizers[0], self.budgets[0]]
        self.steps = [line["step"] for line in first["gaps"][LATENTS]]
        self.spaces = [
            space
            for space in (LATENTS, MAPS, VAE, DIFFUSION, REAL)
            if any(space in cell["gaps"] for cell in self.cells.values())
        ]

    @property
    def places(self) -> list[Place]:
        """All spaces and steps."""
        return [(space, step) for space in self.spaces for step in self.steps]

    def weightings(self, quantizer: str) -> list[str]:
        """Return the weightings of a quantiser."""
        w2 = self.cells[self.seeds[0], quantizer, self.budgets[0]]["w2"]["train"]
        return [name for name in (CELLS, UNIFORM, ONLINE, PERMUTED) if name in w2]

    def kinds(self) -> list[Kind]:
        """All quantisers with all their weightings."""
        return [
            (name, weighting) for name in self.quantizers for weighting in self.weightings(name)
        ]

    def gap(
        self, place: Place, kind: Kind, seed: int, k: int, what: str = "relative"
    ) -> float | None:
        """Return a gap; None where it was not measured."""
        space, step = place
        lines = self.cells[seed, kind[0], k]["gaps"].get(space, [])
        for line in lines:
            if line["step"] == step and kind[1] in line["gaps"]:
                return float(line["gaps"][kind[1]][what])
        return None

    def gaps(self, place: Place, kind: Kind, k: int, what: str = "relative") -> list[float]:
        """Return the gaps of all seeds."""
        values = [self.gap(place, kind, seed, k, what) for seed in self.seeds]
        return [value for value in values if value is not None]

    def w2(self, kind: Kind, k: int, split: str = "train") -> float:
        """Return a Wasserstein distance, as mean over seeds."""
        return fmean(self.cells[seed, kind[0], k]["w2"][split][kind[1]] for seed in self.seeds)

    def distortion(self, quantizer: str, k: int, split: str) -> float:
        """Return a distortion, as mean over classes and seeds."""
        return fmean(
            fmean(self.cells[seed, quantizer, k]["distortion"][split]) for seed in self.seeds
        )

    def fitted_budgets(self) -> list[int]:
        """Return the numbers of centroids behind rates: from 2 on, with enough points for each centroid.

        One centroid is the variance, which knows nothing of a rate.
        """
        most = min(self.record["points"]) / LEAST_PER_CELL
        return [k for k in self.budgets if 2 <= k <= most]

    def rate(self, quantizer: str, split: str) -> PowerLaw | None:
        """Fit the distortion over the number of centroids; None with fewer than two of these."""
        sizes = self.fitted_budgets()
        values = [self.distortion(quantizer, k, split) for k in sizes]
        return fit_power_law(sizes, values) if len(sizes) > 1 else None

    def gap_rate(self, place: Place, kind: Kind) -> Difference | None:
        """Fit gaps over numbers of centroids from 2 on, seed by seed; the exponent with its interval over seeds."""
        asked = (place, kind)
        if asked not in self._gap_rates:  # sentences and tables ask for it, and fits are slow
            self._gap_rates[asked] = self._fit_gaps(place, kind)
        return self._gap_rates[asked]

    def _fit_gaps(self, place: Place, kind: Kind) -> Difference | None:
        sizes = [k for k in self.budgets if k > 1]
        exponents = []
        for seed in self.seeds:
            values = [self.gap(place, kind, seed, k) for k in sizes]
            if len(sizes) < 2 or any(value is None or value <= 0 for value in values):
                return None
            law = fit_power_law(sizes, [value for value in values if value is not None])
            exponents.append(law.exponent)
        return paired_difference(exponents, [0.0] * len(exponents))

    def contrast(
        self, place: Place, first: Kind, second: Kind, second_space: str | None = None
    ) -> Contrast | None:
        """Compare two kinds of sets, seed by seed; None where one was not measured."""
        other = (second_space or place[0], place[1])
        logs = []
        for seed in self.seeds:
            ratios = [
                _log_ratio(self.gap(place, first, seed, k), self.gap(other, second, seed, k))
                for k in self.budgets
                if k > 1  # a single centroid has one weight
            ]
            finite = [ratio for ratio in ratios if ratio is not None]
            if not finite or len(finite) < len(ratios):
                return None
            logs.append(fmean(finite))
        return Contrast(place, first, second, other[0], paired_difference(logs, [0.0] * len(logs)))

    def ratio(self, place: Place, first: Kind, second: Kind, k: int) -> float | None:
        """Return the geometric mean over seeds of one gap over another."""
        logs = [
            _log_ratio(self.gap(place, first, seed, k), self.gap(place, second, seed, k))
            for seed in self.seeds
        ]
        known = [value for value in logs if value is not None]
        return math.exp(fmean(known)) if known else None

    def correlation(self, place: Place, *, within: bool) -> Difference | None:
        """Rank-correlate distances and gaps over quantisers and weightings.

        Args:
            place: Space and step.
            within: Whether at each number of centroids alone, then averaged; otherwise over all of them together, which
                also sees that both fall.

        Returns:
            Spearman's coefficient with its interval over seeds; None where nothing varies.
        """
        values = []
        for seed in self.seeds:
            pairs = {k: self._pairs(place, seed, k) for k in self.budgets if k > 1}
            groups = list(pairs.values()) if within else [[p for g in pairs.values() for p in g]]
            ranks = [_spearman(group) for group in groups]
            known = [rank for rank in ranks if rank is not None]
            if not known:
                return None
            values.append(fmean(known))
        return paired_difference(values, [0.0] * len(values))

    def _pairs(self, place: Place, seed: int, k: int) -> list[tuple[float, float]]:
        pairs = []
        for kind in self.kinds():
            gap = self.gap(place, kind, seed, k)
            if gap is not None:
                pairs.append((self.cells[seed, kind[0], k]["w2"]["train"][kind[1]], gap))
        return pairs

    def looseness(self, step: int) -> tuple[float, float, float]:
        """Compare gaps of single classes with the Lipschitz constant times the distance, in the latent space.

        Returns:
            The estimated constant (mean over seeds), and the least and the median of bound over gap.
        """
        number = self.steps.index(step)
        constants = [self.record["lipschitz"][str(seed)][number] for seed in self.seeds]
        factors = []
        for seed, constant in zip(self.seeds, constants, strict=True):
            for kind in self.kinds():
                for k in self.budgets:
                    gap = self.gap((LATENTS, step), kind, seed, k, "class_norm")
                    distance = self.cells[seed, kind[0], k]["w2"]["train"][kind[1]]
                    if gap:
                        factors.append(constant * distance / gap)
        factors.sort()
        return fmean(constants), factors[0], factors[len(factors) // 2]

    def floor(self, place: Place) -> float | None:
        """Return the gap of all training images, decoded; None where it was not measured."""
        values = [self.gap(place, (ALL_POINTS, UNIFORM), seed, 0) for seed in self.seeds]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None


def contrasts_of(
    measurements: Measurements, pairs: Callable[[str], Iterable[tuple[Kind, Kind, str | None]]]
) -> list[Contrast]:
    """Make contrasts at every space and step, and correct their p-values together (Benjamini and Hochberg 1995).

    Args:
        measurements: A record.
        pairs: Says for a space which kinds are compared, and in which space the second lies.
    """
    made = [
        contrast
        for place in measurements.places
        for first, second, space in pairs(place[0])
        if (contrast := measurements.contrast(place, first, second, space)) is not None
    ]
    known = [c.difference.p_value for c in made if c.difference.p_value is not None]
    if not known or len(known) < len(made):
        return made
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control(known)
    return [replace(c, adjusted=float(p)) for c, p in zip(made, adjusted, strict=True)]


def _log_ratio(first: float | None, second: float | None) -> float | None:
    if not first or not second:
        return None
    return math.log(first / second)


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    columns = list(zip(*pairs, strict=True))
    if len(pairs) < 3 or any(len(set(column)) < 2 for column in columns):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*columns).statistic)
