"""A record of a prior's decoding as Markdown."""

import math

from tabulate import tabulate

from benchmarks.decoding.record import DecodingRecord, ImageFigures
from ddoq.measures import MARGIN, DecodedSetting


def decoding_text(record: DecodingRecord) -> str:
    """Write what was measured: the sets beside real images, the settings, and which of them the rule picks.

    Args:
        record: What was measured.

    Returns:
        Markdown.
    """
    config, teacher, picked = record.config, record.teacher, record.picked
    head = (
        f"### Decoding with the prior of {record.dataset}\n\n"
        f"Method {config['method']}, {config['ipc']} centroids a class, seed {config['seed']}, {config['steps']} steps of the "
        f"whole schedule. Teacher {teacher['arch']}, {100 * teacher['accuracy']:.2f} % on real test images. Prior "
        f"{config['prior']}: reconstruction PSNR {record.prior['reconstruction_psnr']:.1f} dB on "
        f"{record.prior['reconstructed']} test images."
    )
    sets = tabulate(
        [_set_row(item, item is record.real) for item in record.sets],
        ["images", "n", "recognised (%)", "Frechet distance"],
        "pipe",
        colalign=("left", "right", "right", "right"),
        disable_numparse=True,
    )
    settings = tabulate(
        [_setting_row(item, item == picked) for item in record.settings],
        ["strength", "guidance", "recognised (%)", "Frechet distance", "PSNR to plain decode (dB)"],
        "pipe",
        colalign=("right",) * 5,
        disable_numparse=True,
    )
    return "\n\n".join([head, sets, "Centroids, decoded by diffusion:", settings, *_notes(record)])


def _set_row(item: ImageFigures, reference: bool) -> list[str]:
    missing = "reference" if reference else "too few"
    distance = missing if item.frechet is None else _number(item.frechet)
    return [item.name, f"{item.images:,}", f"{100 * item.recognised:.1f}", distance]


def _setting_row(item: DecodedSetting, picked: bool) -> list[str]:
    cells = [
        f"{item.strength:g}",
        f"{item.guidance_scale:g}",
        f"{100 * item.recognised:.1f}",
        _number(item.frechet),
        f"{item.psnr:.1f}",
    ]
    return [f"**{cell}**" for cell in cells] if picked else cells


def _number(value: float) -> str:
    """Write a number with four digits that count.

    Example:
        >>> [_number(value) for value in (0.012341, 12.341, 1234567.0)]
        ['0.01234', '12.34', '1234567']
    """
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def picked_line(record: DecodingRecord) -> str:
    """Say which setting the rule picks, and whether it reaches the goal."""
    picked = record.picked
    text = (
        f"Picked: strength {picked.strength:g}, guidance {picked.guidance_scale:g} "
        f"({100 * picked.recognised:.1f} % recognised, Frechet distance {_number(picked.frechet)})."
    )
    goal = f"{100 * (record.real.recognised - MARGIN):.1f} %"
    if record.reached:
        return f"{text} It reaches the goal of {goal}, that of real test images minus {100 * MARGIN:g} points."
    return (
        f"{text} NO setting reaches the goal of {goal}, that of real test images minus {100 * MARGIN:g} points: the prior is "
        "too weak to decode with, or needs other settings."
    )


def _notes(record: DecodingRecord) -> list[str]:
    images, picked = record.picked.images, record.picked
    error = 100 * math.sqrt(0.25 / images)
    rule = (
        f"The rule: {record.rule}. It changes no default: `--model.init_args.sampling.strength {picked.strength:g} "
        f"--model.init_args.sampling.guidance_scale {picked.guidance_scale:g}` does."
    )
    reading = (
        f"A share of {images} images has a standard error of up to {error:.1f} points. Frechet distances are of Gaussians "
        "fitted to the teacher's last features, to those of all real test images (of reconstructions: of the others); few images bias them upwards, so compare "
        "them at equal n alone, and with that of as many real training images (which the teacher has learned from: what it "
        "recognises of these says little); centroids, which are spread on purpose, may come nearer than images that are drawn. The PSNR compares decoded centroids with the same ones decoded without diffusion: "
        "the lower, the more of the image the diffusion model has made up."
    )
    return [picked_line(record), rule, reading]
