"""Findings from records whose numbers follow a law that is known."""

import math

import pytest

from benchmarks.theory.findings import Measurements
from benchmarks.theory.sentences import (
    change,
    control_contrasts,
    findings,
    random_contrasts,
    weight_contrasts,
)

BUDGETS = [1, 2, 5, 10, 20]
PENALTY = {"cells": 1.0, "uniform": 1.25, "permuted": 1.6}


def record_of(penalty=PENALTY, seeds=(0, 1, 2), dimension=8.0):
    """W2 falls as K^(-1/8), the gap is half of it; other weights than masses cost what ``penalty`` says."""
    cells = []
    for seed in seeds:
        wobble = 1 + 0.01 * math.sin(1 + seed)
        for k in BUDGETS:
            for quantizer, worse in (("lloyd", 1.0), ("random", 1.5)):
                w2 = {n: worse * p ** (k > 1) * k ** (-1 / 8) for n, p in penalty.items()}
                gaps = {
                    n: {"relative": wobble * d / 2, "norm": d, "cosine": 0.5, "class_norm": d}
                    for n, d in w2.items()
                }
                cells.append(
                    {
                        "seed": seed,
                        "quantizer": quantizer,
                        "ipc": k,
                        "distortion": {s: [w2["cells"] ** 2] * 2 for s in ("train", "held_out")},
                        "w2": {"train": w2, "held_out": w2},
                        "gaps": {"latents": [{"step": 0, "gaps": gaps}]},
                        "seconds": 1.0,
                    }
                )
    return {
        "seeds": list(seeds),
        "budgets": BUDGETS,
        "quantizers": ["lloyd", "random"],
        "points": [100, 120],
        "dimension": {"two_nn": [dimension] * 2, "levina_bickel": None},
        "lipschitz": {str(seed): [3.0] for seed in seeds},
        "cells": cells,
    }


def test_exponents_are_those_of_the_law():
    measured = Measurements(record_of())
    assert measured.fitted_budgets() == [2, 5, 10, 20]
    law = measured.rate("lloyd", "train")
    assert law.exponent == pytest.approx(-0.25)
    gap = measured.gap_rate(("latents", 0), ("lloyd", "cells"))
    assert gap.mean == pytest.approx(-1 / 8)
    assert measured.looseness(0) == pytest.approx((3.0, 3.0, 3.0))
    text = "\n".join(findings(measured))
    assert "-0.250 (-0.250 to -0.250); at Zador's rate that is d = 8.0" in text
    assert "cell masses are nearer to the class than uniform weights by 20.0 % at K = 2" in text


@pytest.mark.parametrize(
    ("penalty", "verdict", "percent"),
    [(1.25, "smaller", "-20 %"), (0.8, "larger", "+25 %"), (1.0, "no difference shown", "+0 %")],
)
def test_verdicts_follow_the_numbers(penalty, verdict, percent):
    record = record_of()
    for cell in record["cells"]:
        gaps = cell["gaps"]["latents"][0]["gaps"]
        gaps["uniform"]["relative"] = gaps["cells"]["relative"] * penalty ** (cell["ipc"] > 1)
        gaps["uniform"]["relative"] *= 1 + 0.001 * (cell["seed"] - 1)
    contrast = weight_contrasts(Measurements(record))[0]
    assert contrast.verdict == verdict
    assert change(contrast).startswith(percent)
    smaller, larger = 2 * (verdict == "smaller"), 2 * (verdict == "larger")
    told = f"shown in {smaller} of 2 comparisons (steps, quantisers), the contrary in {larger}"
    assert told in "\n".join(findings(Measurements(record)))


def test_distances_that_order_gaps_correlate_with_them_fully():
    measured = Measurements(record_of())
    assert measured.correlation(("latents", 0), within=True).mean == pytest.approx(1)
    record = record_of()
    for cell in record["cells"]:  # the larger the distance, the smaller the gap
        for gap in cell["gaps"]["latents"][0]["gaps"].values():
            gap["relative"] = 1 / gap["norm"]
    measured = Measurements(record)
    assert measured.correlation(("latents", 0), within=True).mean == pytest.approx(-1)
    assert measured.correlation(("latents", 0), within=False).mean == pytest.approx(-1)


def test_controls_and_random_data_are_compared():
    measured = Measurements(record_of())
    assert {c.second for c in control_contrasts(measured)} == {
        ("lloyd", "permuted"),
        ("random", "permuted"),
    }
    (masses, uniform) = random_contrasts(measured)
    assert (masses.first, masses.second) == (("lloyd", "cells"), ("random", "uniform"))
    assert math.exp(masses.difference.mean) == pytest.approx(1 / 1.5 / 1.25)
    assert uniform.verdict == "smaller"


def test_one_seed_decides_nothing():
    measured = Measurements(record_of(seeds=(0,)))
    assert {c.verdict for c in weight_contrasts(measured)} == {"one seed: nothing can be said"}
    assert "Gaps over K" not in "\n".join(findings(measured))


def test_a_bound_below_a_gap_is_reported_as_failing():
    record = record_of()
    record["lipschitz"] = {seed: [0.5] for seed in record["lipschitz"]}
    assert "fails with this estimate" in "\n".join(findings(Measurements(record)))


@pytest.mark.parametrize(("dimension", "place"), [(8.0, "within"), (20.0, "above"), (2.0, "below")])
def test_estimates_are_placed_beside_the_rate(dimension, place):
    record = record_of(dimension=dimension)
    for cell in record["cells"]:  # deviations from the law, for an interval of some width
        cell["distortion"]["train"] = [
            d * 1.02 ** (cell["ipc"] % 3) for d in cell["distortion"]["train"]
        ]
    (line,) = [text for text in findings(Measurements(record)) if "Rate of lloyd" in text]
    assert f"TwoNN estimate {dimension:.1f} is {place}" in line
