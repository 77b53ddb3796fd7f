"""What was found, in sentences that are made of the numbers alone."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean

from benchmarks.statistics.comparison import Difference
from benchmarks.theory.codebooks import CELLS, ONLINE, PERMUTED, UNIFORM
from benchmarks.theory.findings import (
    LEAST_PER_CELL,
    Contrast,
    Kind,
    Measurements,
    Place,
    contrasts_of,
)
from benchmarks.theory.options import LATENTS, MAPS, REAL
from ddoq.quantization.rates import PowerLaw, implied_dimension

RANDOM = "random"
ESTIMATORS = {"two_nn": "TwoNN", "levina_bickel": "Levina and Bickel's"}


def name_of(kind: Kind) -> str:
    """Name a kind of set.

    Example:
        >>> name_of(("lloyd", "cells"))
        'lloyd, cells'
    """
    return f"{kind[0]}, {kind[1]}"


def place_name(place: Place) -> str:
    """Name a space and a step."""
    return f"{place[0]}, step {place[1]}"


def interval(difference: Difference, digits: int = 2) -> str:
    """Write a mean with its interval."""
    text = f"{difference.mean:+.{digits}f}"
    if difference.low is None or difference.high is None:
        return text
    return f"{text} ({difference.low:+.{digits}f} to {difference.high:+.{digits}f})"


def change(contrast: Contrast) -> str:
    """Write a contrast as a change in per cent, with its interval."""
    d = contrast.difference
    text = f"{_percent(d.mean):+.0f} %"
    if d.low is None or d.high is None:
        return text
    return f"{text} ({_percent(d.low):+.0f} to {_percent(d.high):+.0f})"


def _percent(logarithm: float) -> float:
    return 100 * math.expm1(min(logarithm, 20.0))


def law_text(law: PowerLaw) -> str:
    """Write a fitted exponent with its interval."""
    if law.low is None or law.high is None:
        return f"{law.exponent:.3f}"
    return f"{law.exponent:.3f} ({law.low:.3f} to {law.high:.3f})"


def dimension_text(law: PowerLaw) -> str:
    """Write the dimension that an exponent of distortion implies, with its interval."""
    text = _dimension(law.exponent)
    if law.low is None or law.high is None:
        return text
    return f"{text} ({_dimension(law.low)} to {_dimension(law.high)})"


def _dimension(exponent: float) -> str:
    value = implied_dimension(exponent)
    return "infinite" if math.isinf(value) else f"{value:.1f}"


def estimates(measurements: Measurements) -> dict[str, list[float]]:
    """Return the estimates of the intrinsic dimension that could be made, by name."""
    given = measurements.record["dimension"]
    return {title: given[key] for key, title in ESTIMATORS.items() if given[key] is not None}


def weight_contrasts(measurements: Measurements) -> list[Contrast]:
    """Compare cell masses, and the counts of online quantisers, with uniform weights."""

    def pairs(space: str) -> Iterable[tuple[Kind, Kind, str | None]]:
        for quantizer in measurements.quantizers:
            for weighting in (CELLS, ONLINE):
                if weighting in measurements.weightings(quantizer):
                    yield (quantizer, weighting), (quantizer, UNIFORM), None

    return contrasts_of(measurements, pairs)


def control_contrasts(measurements: Measurements) -> list[Contrast]:
    """Compare cell masses with the same masses in random order."""

    def pairs(space: str) -> Iterable[tuple[Kind, Kind, str | None]]:
        for quantizer in measurements.quantizers:
            yield (quantizer, CELLS), (quantizer, PERMUTED), None

    return contrasts_of(measurements, pairs)


def random_contrasts(measurements: Measurements) -> list[Contrast]:
    """Compare quantised sets with random real data under equal weights: latents among latents, images among images."""
    if RANDOM not in measurements.quantizers:
        return []

    def pairs(space: str) -> Iterable[tuple[Kind, Kind, str | None]]:
        for quantizer in measurements.quantizers:
            if quantizer != RANDOM:
                for weighting in (CELLS, UNIFORM):
                    second = space if space in (LATENTS, MAPS) else REAL
                    yield (quantizer, weighting), (RANDOM, UNIFORM), second

    return contrasts_of(measurements, pairs)


def findings(measurements: Measurements) -> list[str]:
    """Say what a record shows, a sentence or two each."""
    return [
        *_rates(measurements),
        *_distances(measurements),
        *_falling(measurements),
        *_counted(
            "Cell masses or online counts leave a smaller gap than uniform weights",
            weight_contrasts(measurements),
        ),
        *_counted(
            "Cell masses leave a smaller gap than the same masses permuted",
            control_contrasts(measurements),
        ),
        *_counted(
            "Quantised sets leave a smaller gap than random real data",
            random_contrasts(measurements),
        ),
        *_bound(measurements),
    ]


def _rates(measurements: Measurements) -> list[str]:
    lines = []
    given = estimates(measurements)
    for quantizer in measurements.quantizers:
        law = measurements.rate(quantizer, "train")
        if law is None:
            return [
                (
                    "**Rates**: fewer than two numbers of centroids lie between 2 and a "
                    f"{LEAST_PER_CELL}th of the points; no exponent was fitted."
                )
            ]
        parts = [
            (
                f"**Rate of {quantizer}**: distortion falls as K to the power {law_text(law)}; at Zador's rate that is "
                f"d = {dimension_text(law)}"
            )
        ]
        for title, values in given.items():
            parts.append(f"{title} estimate {fmean(values):.1f} is {_against(fmean(values), law)}")
        lines.append("; ".join(parts) + ".")
    return lines


def _against(dimension: float, law: PowerLaw) -> str:
    if law.low is None or law.high is None:
        return "beside a single line"
    low, high = implied_dimension(law.low), implied_dimension(law.high)
    if low <= dimension <= high:
        return "within that interval"
    return "below it" if dimension < low else "above it"


def _distances(measurements: Measurements) -> list[str]:
    lines = []
    for quantizer in measurements.quantizers:
        parts = []
        for k in measurements.budgets:
            if k == 1:
                continue
            uniform = measurements.w2((quantizer, UNIFORM), k)
            nearer = 1 - measurements.w2((quantizer, CELLS), k) / uniform if uniform > 0 else 0.0
            parts.append(f"{100 * nearer:.1f} % at K = {k}")
        if parts:
            lines.append(
                f"**Distance of {quantizer}**: cell masses are nearer to the class than uniform weights by "
                f"{', '.join(parts)}."
            )
    return lines


def _falling(measurements: Measurements) -> list[str]:
    """Say whether gaps fall with more centroids."""
    verdicts: Counter[str] = Counter()
    for place in measurements.places:
        for kind in measurements.kinds():
            rate = measurements.gap_rate(place, kind)
            if rate is None or rate.low is None or rate.high is None:
                continue
            verdicts["falling" if rate.high < 0 else "rising" if rate.low > 0 else "undecided"] += 1
    total = sum(verdicts.values())
    if not total:
        return []
    return [
        (
            f"**Gaps over K**: of {total} exponents (a space, a step, a quantiser and its weights each) the 95 % interval "
            f"over seeds lies below 0 for {verdicts['falling']}, above 0 for {verdicts['rising']}, and holds 0 for "
            f"{verdicts['undecided']}."
        )
    ]


def _counted(claim: str, contrasts: Sequence[Contrast]) -> list[str]:
    """Count, space by space, where a claim that a gap is smaller holds."""
    lines = []
    for space in dict.fromkeys(c.place[0] for c in contrasts):
        mine = [c for c in contrasts if c.place[0] == space]
        counts = Counter(c.verdict for c in mine)
        open_ = len(mine) - counts["smaller"] - counts["larger"]
        median = sorted(c.difference.mean for c in mine)[len(mine) // 2]
        lines.append(
            f"**{claim}**, {space}: shown in {counts['smaller']} of {len(mine)} comparisons (steps, quantisers), the "
            f"contrary in {counts['larger']}, nothing in {open_}; the median change of the gap is "
            f"{_percent(median):+.0f} %."
        )
    return lines


def _bound(measurements: Measurements) -> list[str]:
    lines = []
    for space in measurements.spaces:
        parts = []
        for step in measurements.steps:
            over = measurements.correlation((space, step), within=False)
            within = measurements.correlation((space, step), within=True)
            if over is not None and within is not None:
                parts.append(
                    f"{interval(within)} at equal K and {interval(over)} over all K at step {step}"
                )
        if parts:
            lines.append(f"**Rank correlation of W2 and gap, {space}**: {'; '.join(parts)}.")
    for step in measurements.steps:
        constant, least, median = measurements.looseness(step)
        holds = "holds" if least >= 1 else "fails with this estimate of the constant"
        lines.append(
            f"**Bound, latents, step {step}**: with the steepest slope seen, {constant:.2f}, the bound L W2 on the gap of a "
            f"class {holds} everywhere; it is {least:.1f} times the gap at its tightest, {median:.1f} times in the median."
            if least >= 1
            else f"**Bound, latents, step {step}**: with the steepest slope seen, {constant:.2f}, the bound {holds}: bound "
            f"over gap goes down to {least:.2f}, with a median of {median:.1f}."
        )
    return lines
