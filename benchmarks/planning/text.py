"""The plan as text: one table a budget, a summary over budgets, and how hours were reckoned."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.planning.speed import Clock, Speed
from benchmarks.planning.stages import total_flops
from ddoq.costs.workload import Stage
from ddoq.escaping import markdown_table

_RIGHT = {"passes", "batch", "FLOPs", "hours", "ipc", "images/s here", "graphs/s here"}
_NOTES = (
    "FLOPs: counted on networks without values, two a multiply-add; products of matrices, convolutions, attention.",
    "Sums take bounds (at most) as they are.",
    "Stages that are cached already will not run again.",
    "Disk: raw bytes; latents in fp16, images in uint8, labels in fp16. Headers and compression are left out.",
    "Peak memory: weights, gradients, optimiser, live tensors of one batch, and what the stage keeps on the device.",
    "Not in it: scores of attention (fused kernels need none), workspaces of kernels, fragmentation.",
)
_COUNTS = {"E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6}
_BYTES = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


def plan_text(
    plans: Mapping[int, Sequence[Stage]],
    speed: Speed | None,
    *,
    holds: str = "images",
    remarks: Sequence[str] = _NOTES,
) -> str:
    """Write plans down as Markdown.

    Args:
        plans: The stages of each budget, by images per class.
        speed: For hours; none are shown where None.
        holds: What a set holds, ``images`` or ``graphs``.
        remarks: How the numbers are counted.
    """
    parts = [
        f"#### {ipc} {holds} per class\n\n{_table([_row(stage, speed, holds) for stage in stages])}"
        for ipc, stages in plans.items()
    ]
    if len(plans) > 1:
        totals = [{"ipc": str(ipc), **_total(stages, speed)} for ipc, stages in plans.items()]
        parts.append(f"#### All\n\n{_table(totals)}")
    notes = (*remarks, speed.text()) if speed else remarks
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)])


def _row(stage: Stage, speed: Speed | None, holds: str) -> dict[str, str]:
    bound = "at most " if stage.at_most else ""
    files = [f"{name} {_amount(size, _BYTES, ' B')}" for name, size in stage.files.items() if size]
    row = {
        "stage": stage.name,
        "network": stage.network,
        "passes": f"{stage.passes:,}" if stage.passes else "",
        "batch": str(stage.batch) if stage.passes else "",
        "FLOPs": bound + _flops(stage.flops),
        "disk": ", ".join(files),
        "peak memory": "" if stage.memory is None else _amount(stage.memory, _BYTES, " B"),
    }
    if isinstance(speed, Clock):
        seconds = speed.seconds(stage)
        row[f"{holds}/s here"] = "" if seconds is None else _number(1 / seconds)
    if speed is not None:
        hours = speed.hours(stage)
        row["hours"] = "" if hours is None else bound + _number(hours)
    return {**row, "note": stage.note}


def _total(stages: Sequence[Stage], speed: Speed | None) -> dict[str, str]:
    files = sum(sum(stage.files.values()) for stage in stages)
    known = [stage.memory for stage in stages if stage.memory is not None]
    row = {
        "FLOPs": _flops(total_flops(stages)),
        "disk": _amount(files, _BYTES, " B"),
        "peak memory": "" if not known else _amount(max(known), _BYTES, " B"),
    }
    if speed is not None:
        hours = [(stage, speed.hours(stage)) for stage in stages]
        lacking = any(h is None and (stage.passes or stage.flops is None) for stage, h in hours)
        hours_known = _number(sum(h for _, h in hours if h is not None))
        row["hours"] = f"at least {hours_known}" if lacking else hours_known
    return row


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = list(rows[0])
    align = ["right" if head in _RIGHT else "left" for head in heads]
    lines = [list(row.values()) for row in rows]
    return markdown_table(heads, lines, align)


def _flops(value: int | None) -> str:
    return "unknown" if value is None else _amount(value, _COUNTS)


def _amount(value: int, units: Mapping[str, float], rest: str = "") -> str:
    """Write a number in the largest unit that it fills.

    Example:
        >>> _amount(2_500_000_000_000, _COUNTS), _amount(6_000_000_000, _BYTES), _amount(5, _BYTES, " B")
        ('2.5 T', '6 GB', '5 B')
    """
    for unit, factor in units.items():
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value}{rest}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
