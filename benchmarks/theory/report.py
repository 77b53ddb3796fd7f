"""The report of a study: findings, tables and figures, made of its record alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.theory.codebooks import CELLS, ONLINE, PERMUTED, UNIFORM
from benchmarks.theory.findings import (
    LEAST_PER_CELL,
    Contrast,
    Kind,
    Measurements,
)
from benchmarks.theory.options import LATENTS, MAPS, REAL
from benchmarks.theory.sentences import (
    change,
    control_contrasts,
    dimension_text,
    estimates,
    findings,
    interval,
    law_text,
    name_of,
    place_name,
    random_contrasts,
    weight_contrasts,
)
from ddoq.console import duration
from ddoq.errors import UserError
from ddoq.escaping import markdown, markdown_table
from ddoq.storage.files import atomic_path

FIGURES = ("rates", "gaps", "bound")

_INTRODUCTION = """Written by `ddoq-bench theory` from its record; nothing in it is typed. Each class is a measure in the latent space of the
prior. It is quantised by several methods to K weighted points, and two things are measured: how far these are from the class
(distortion, Wasserstein distance W2), and how far the gradient of a student's mean loss on them is from that on the real
class (hard labels, all classes alike). The theory says that the distance falls as K to the power -1/d (Zador), that the masses of the Voronoi
cells are the weights that bring it lowest, and that the gap is at most a Lipschitz constant times the distance. Seeds decide
quantiser, student and noise together; intervals are of 95 % over seeds (Student's t), unless said otherwise."""

_KINDS = """*cells*: masses of the Voronoi cells. *uniform*: equal weights. *online*: the counts that a quantiser keeps while it learns (with d4m:
the paper's, `faithful: true`). *permuted*: cell masses in random order, a control. *latents*: a perceptron on the latents themselves, nothing is
decoded. *latents-conv*: a ConvNet with instance norm on them as maps. *vae*, *diffusion*: a ConvNet on centroids that the decoder alone, or the whole diffusion model, made images of.
*real*: the same ConvNet on the real images whose latents were chosen (`random` and `medoid`).

Lloyd's centroids are the means of their cells. With cell masses whatever is linear in the latents therefore has no gap, and that of a smooth loss is of
second order in the distance, below what the bound says; with other weights, other centroids or a decoder in between it is of first order."""

_LIMITS = """- Students are small, labels hard, and there is no augmentation, no mixing and no teacher; trained students of the suite have all of these.
- The gap is of one gradient at weights that real data led to. A student that trains on the set itself goes elsewhere.
- The Lipschitz constant is the steepest slope between pairs of real latents: a lower bound. Where L W2 is below a gap, the estimate is at fault, not
  the theorem.
- Exponents are fitted to few numbers of centroids, and the curve of finite data bends: the rate of the theory is asymptotic, in K and in points.
- Distances in pixel spaces are those of the latents; the decoder stands between."""


def write_report(record: Mapping[str, Any], output: Path) -> None:
    """Write a report and its figures.

    Args:
        record: See :mod:`benchmarks.theory.record`.
        output: The Markdown file; figures lie beside it under the same stem.

    Raises:
        UserError: If a file cannot be written.
    """
    from benchmarks.theory.plots import draw_figures

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draw_figures(Measurements(record), figure_paths(output))
        with atomic_path(output) as temporary:
            temporary.write_text(report_text(record, output), encoding="utf-8")
    except OSError as error:
        raise UserError(f"Cannot write {output}: {error.strerror}.") from None


def figure_paths(output: Path) -> dict[str, Path]:
    """Return the figures of a report: ``rates``, ``gaps`` and ``bound``."""
    return {name: output.with_name(f"{output.stem}-{name}.png") for name in FIGURES}


def report_text(record: Mapping[str, Any], output: Path) -> str:
    """Write the text of a report.

    Args:
        record: See :mod:`benchmarks.theory.record`.
        output: The Markdown file, beside which the figures lie.

    Returns:
        Markdown.
    """
    measurements = Measurements(record)
    figures = {name: path.name for name, path in figure_paths(output).items()}
    parts = [
        markdown(f"# The theory, measured on {record['dataset']['name']}"),
        _INTRODUCTION,
        _facts(record),
        "## What was found",
        "\n".join(f"- {line}" for line in findings(measurements)),
        "## Rates and dimension",
        f"![Rates]({figures['rates']})",
        _rate_tables(measurements),
        "## Distances",
        _distance_table(measurements),
        "## Gaps between gradients",
        _KINDS,
        f"![Gaps]({figures['gaps']})",
        *_gap_tables(measurements),
        "## What weights change",
        *_contrast_parts(measurements),
        "## Distance and gap",
        f"![Gaps over distances]({figures['bound']})",
        _bound_table(measurements),
        "## What this does not show",
        _LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _facts(record: Mapping[str, Any]) -> str:
    points, held_out = record["points"], record["held_out_points"]
    config = record["config"]
    git = record["provenance"]["git"]
    on_images = "" if config["arch"] is None else f" (on images: {config['arch']})"
    changed = " with changes" if git and git["modified"] else ""
    commit = "" if git is None else f" Code: commit {git['commit'][:12]}{changed}."
    return (
        f"{len(points)} classes; {min(points)} to {max(points)} training latents a class of {record['latent_values']} values, "
        f"{min(held_out)} to {max(held_out)} held-out ones; seeds {', '.join(map(str, record['seeds']))}; students at steps "
        f"{', '.join(map(str, config['checkpoints']))} of training on the real data"
        f"{on_images}. Measured in "
        f"{duration(record['cost']['seconds'])}.{commit}"
    )


def _rate_tables(measurements: Measurements) -> str:
    rows = []
    for quantizer in measurements.quantizers:
        laws = [measurements.rate(quantizer, split) for split in ("train", "held_out")]
        cells = [[law_text(law), dimension_text(law)] if law else ["", ""] for law in laws]
        rows.append([quantizer, *cells[0], *cells[1]])
    headers = ["quantiser", "exponent", "implied d", "exponent, held out", "implied d, held out"]
    table = markdown_table(headers, rows, ["left"] + ["right"] * 4)
    sizes = ", ".join(map(str, measurements.fitted_budgets())) or "none"
    note = (
        f"Exponents of the distortion (a squared distance: Zador's rate is -2/d) by least squares of logarithms over K = {sizes}: "
        f"from 2 on, and with {LEAST_PER_CELL} points a centroid at least. Their intervals are of the regression."
    )
    rows = [
        [name, f"{fmean(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"]
        for name, values in estimates(measurements).items()
    ]
    if not rows:
        return (
            f"{note}\n\n{table}\n\nClasses have too few points for an estimate of their dimension."
        )
    dimensions = markdown_table(
        ["intrinsic dimension", "mean over classes", "least", "largest"],
        rows,
        ["left"] + ["right"] * 3,
    )
    return f"{note}\n\n{table}\n\n{dimensions}"


def _distance_table(measurements: Measurements) -> str:
    floor = fmean(
        cell["w2_held_out"] for cell in measurements.cells.values() if "w2_held_out" in cell
    )
    note = (
        "W2 of a class to its codebook, mean over classes and seeds; in brackets that of held-out latents. All training latents "
        f"together are {floor:.3g} from the held-out ones."
    )
    rows = []
    for kind in measurements.kinds():
        cells = []
        for k in measurements.budgets:
            text = f"{measurements.w2(kind, k):.3g}"
            if kind[1] in (CELLS, UNIFORM, ONLINE):
                text += f" ({measurements.w2(kind, k, 'held_out'):.3g})"
            cells.append(text)
        rows.append([name_of(kind), *cells])
    return f"{note}\n\n{_by_budget(measurements, 'quantiser, weights', rows)}"


def _by_budget(
    measurements: Measurements, head: str, rows: Sequence[Sequence[str]], *more: str
) -> str:
    headers = [head, *(f"K = {k}" for k in measurements.budgets), *more]
    return markdown_table(headers, rows, ["left"] + ["right"] * (len(headers) - 1))


def _gap_tables(measurements: Measurements) -> list[str]:
    parts = []
    largest = max(measurements.budgets)
    for place in measurements.places:
        rows = []
        for kind in measurements.kinds():
            cells = [_spread(measurements.gaps(place, kind, k)) for k in measurements.budgets]
            if kind[1] == PERMUTED or not any(cells):  # the control is in the contrasts
                continue
            rate = measurements.gap_rate(place, kind)
            cosines = measurements.gaps(place, kind, largest, "cosine")
            tail = [interval(rate) if rate else "", f"{fmean(cosines):.3f}" if cosines else ""]
            rows.append([name_of(kind), *cells, *tail])
        if not rows:
            continue
        losses = measurements.record["losses"]
        number = measurements.steps.index(place[1])
        student = place[0] if place[0] in (LATENTS, MAPS) else "images"
        loss = fmean(losses[str(seed)][student][number] for seed in measurements.seeds)
        note = f"Relative gap, {place_name(place)} (mean loss on the real data there: {loss:.3g})."
        floor = measurements.floor(place)
        if floor is not None and place[0] not in (LATENTS, MAPS):
            note += f" All training images, encoded and decoded: {floor:.3f}."
        table = _by_budget(
            measurements, "quantiser, weights", rows, "exponent over K", f"cosine, K = {largest}"
        )
        parts.append(f"{note}\n\n{table}")
    return parts


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{deviation}"


def _contrast_parts(measurements: Measurements) -> list[str]:
    parts = [
        (
            "Changes of the relative gap are geometric means over K from 2 on; p-values hold the false discovery rate over a table "
            "(Benjamini and Hochberg)."
        )
    ]
    for title, contrasts in (
        (
            "### Cell masses and online counts against uniform weights",
            weight_contrasts(measurements),
        ),
        ("### Cell masses against the same masses permuted", control_contrasts(measurements)),
        ("### Against random real data under equal weights", random_contrasts(measurements)),
    ):
        if contrasts:
            parts += [title, _contrast_table(contrasts)]
    parts += ["### Cell masses over uniform weights, K by K", _ratio_table(measurements)]
    return parts


def _contrast_table(contrasts: Sequence[Contrast]) -> str:
    rows = []
    for c in contrasts:
        p = "" if c.adjusted is None else ("< 0.001" if c.adjusted < 0.001 else f"{c.adjusted:.3f}")
        other = name_of(c.second) + (f" ({c.second_space})" if c.second_space != c.place[0] else "")
        rows.append([place_name(c.place), name_of(c.first), other, change(c), p, c.verdict])
    headers = ["space", "set", "against", "change (95 %)", "corrected p", "the gap is"]
    return markdown_table(headers, rows, ["left"] * 3 + ["right"] * 2 + ["left"])


def _ratio_table(measurements: Measurements) -> str:
    rows = []
    for place in measurements.places:
        for quantizer in measurements.quantizers:
            kinds: tuple[Kind, Kind] = ((quantizer, CELLS), (quantizer, UNIFORM))
            ratios = [measurements.ratio(place, *kinds, k) for k in measurements.budgets]
            if any(ratio is not None for ratio in ratios):
                texts = ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
                rows.append([f"{place_name(place)}: {quantizer}", *texts])
    note = "Below 1 the gap is smaller with cell masses."
    return f"{note}\n\n{_by_budget(measurements, 'space, quantiser', rows)}"


def _bound_table(measurements: Measurements) -> str:
    rows = []
    for place in measurements.places:
        both = [measurements.correlation(place, within=within) for within in (True, False)]
        if any(both):
            rows.append([place_name(place), *(interval(d) if d else "" for d in both)])
    note = (
        "Spearman's rank correlation of W2 (in the latent space) and relative gap over quantisers and weights: at each K, then averaged, and over "
        "all K together, where both fall."
    )
    if REAL in measurements.spaces:
        note += f" In *{REAL}* there are only the kinds whose centroids are real images."
    headers = ["space", "at equal K", "over all K"]
    return f"{note}\n\n{markdown_table(headers, rows, ['left', 'right', 'right'])}"
