"""The pictures of a record: recognition over strength and guidance, and decoded centroids beside real images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.decoding.record import DecodingRecord
from benchmarks.leaderboard.drawing import COLOURS, GREY, new_figure, plain_text, save_figure
from ddoq.data import ImageSplit
from ddoq.distillation.figures import captioned_sheet
from ddoq.distillation.shard import Shard
from ddoq.fonts import drawable
from ddoq.measures import MARGIN, Seen

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Images of a class on the sheet.
REAL_COLUMNS = 5
_DECODED_COLUMNS = 10


def curve_figure(record: DecodingRecord, path: Path) -> None:
    """Draw recognition against two distances, a line per guidance, its points labelled by their strengths.

    Args:
        record: What was measured.
        path: The PNG to write.
    """
    with plain_text([record.dataset, record.teacher["arch"]]):
        figure = new_figure(10, 4.8)
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_lines(left, record, [item.frechet for item in record.settings])
        _draw_lines(right, record, [item.psnr for item in record.settings])
        _draw_sets(left, record)
        left.set_xlabel("Frechet distance to real test images (teacher's features)")
        right.set_xlabel("PSNR to the decode without diffusion (dB)")
        left.set_ylabel("recognised by the teacher (%)")
        title = (
            f"{record.dataset}: {record.config['method']}, ipc {record.config['ipc']}, judged by "
            f"{record.teacher['arch']}"
        )
        figure.suptitle(drawable(title), fontsize=10)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        save_figure(figure, path)


def _draw_lines(axis: "Axes", record: DecodingRecord, across: Sequence[float]) -> None:
    """Draw the settings over what is on the horizontal axis."""
    goal = 100 * (record.real.recognised - MARGIN)
    real = 100 * record.real.recognised
    axis.axhline(real, color="black", lw=0.8, label="real test images")
    axis.axhline(goal, color="black", lw=0.8, ls="--", label=f"goal: {100 * MARGIN:g} points less")
    for number, guidance in enumerate(sorted({item.guidance_scale for item in record.settings})):
        pairs = [
            (x, item)
            for x, item in zip(across, record.settings, strict=True)
            if item.guidance_scale == guidance
        ]
        colour = COLOURS[number % len(COLOURS)]
        heights = [100 * item.recognised for _, item in pairs]
        axis.plot(
            [x for x, _ in pairs],
            heights,
            "o-",
            color=colour,
            ms=4,
            lw=1.2,
            label=f"guidance {guidance:g}",
        )
        for (x, item), height in zip(pairs, heights, strict=True):
            axis.annotate(
                f"{item.strength:g}",
                (x, height),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=7,
                color=colour,
            )
    x, picked = next(
        (x, item) for x, item in zip(across, record.settings, strict=True) if item == record.picked
    )
    axis.plot(
        x,
        100 * picked.recognised,
        "o",
        ms=11,
        mfc="none",
        mec="black",
        ls="none",
        label="picked (numbers: strength)",
    )
    axis.margins(x=0.09)  # room for the numbers
    axis.grid(alpha=0.3)


def _draw_sets(axis: "Axes", record: DecodingRecord) -> None:
    """Draw the sets of as many images as there are centroids: real ones, reconstructions and plain decodes."""
    markers = {"real training": "s", "reconstructed": "^", "centroids": "v"}
    for item in record.sets:
        marker = next((m for start, m in markers.items() if item.name.startswith(start)), None)
        if marker is None or item.frechet is None or item.images != record.picked.images:
            continue
        axis.plot(
            item.frechet,
            100 * item.recognised,
            marker,
            color=GREY,
            ms=6,
            ls="none",
            label=item.name,
        )


def decoding_sheet(
    record: DecodingRecord, real: ImageSplit, shards: Sequence[Shard], seen: Seen, path: Path
) -> None:
    """Draw real images of every class beside its decoded centroids; below these, how sure the teacher is of the class.

    Args:
        record: What was measured.
        real: Real images, some of each class.
        shards: Of the picked setting, one a class.
        seen: What the teacher sees in their images.
        path: The PNG to write.
    """
    decoded = torch.cat([shard.images for shard in shards])
    captions = [f"{100 * value:.0f} %" for value in seen.confidence.tolist()]
    captioned_sheet(
        torch.cat([real.load(range(len(real))), decoded]),
        torch.cat([real.labels, seen.labels]),
        ["real"] * len(real) + captions,
        record.class_names,
        path,
        max_per_class=REAL_COLUMNS + _DECODED_COLUMNS,
    )
