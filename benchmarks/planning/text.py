"""The plan as text: one table a budget, a summary over budgets, and how hours were reckoned."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.planning.stages import Job, plan, total_flops
from ddoq.costs.workload import Stage

_WARM, _TIMED = 1, 3  # batches before the clock starts, and batches that count


@dataclass(frozen=True)
class Rate:
    """How fast a device is.

    Attributes:
        device: Its name.
        precision: bf16, fp16 or fp32.
        peak: Dense peak in TFLOP/s.
        utilisation: Share of it that is sustained.
    """

    device: str
    precision: str
    peak: float
    utilisation: float

    def hours(self, flops: int) -> float:
        """Return the hours that operations take.

        Example:
            >>> Rate("a", "bf16", 100.0, 0.5).hours(180 * 10**15)
            1.0
        """
        return flops / (self.peak * 1e12 * self.utilisation) / 3600

    def text(self) -> str:
        """Say it in words."""
        return (
            f"Hours: {self.device}, {self.peak:g} TFLOP/s peak in {self.precision} times a utilisation of "
            f"{self.utilisation:g}, which is {self.peak * self.utilisation:.4g} TFLOP/s sustained. One device."
        )


@dataclass
class Clock:
    """Measures how fast stages run here; each kind of stage once.

    Attributes:
        device: Where.
        seen: Seconds an input, by network, stage and batch.
    """

    device: torch.device
    seen: dict[Any, float] = field(default_factory=dict)

    def seconds(self, stage: Stage) -> float | None:
        """Return the seconds that an input takes; None for a stage without a probe."""
        if stage.probe is None or stage.passes == 0:
            return None
        key = (stage.name, stage.network, stage.batch)
        if key not in self.seen:
            self.seen[key] = self._measure(stage.probe, stage.batch)
        return self.seen[key]

    def _measure(self, probe: Callable[[int], Any], batch: int) -> float:
        for _ in range(_WARM):
            probe(batch)
        self._wait()
        started = time.perf_counter()
        for _ in range(_TIMED):
            probe(batch)
        self._wait()
        return (time.perf_counter() - started) / _TIMED / batch

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def plan_text(
    make_job: Callable[[int], Job], budgets: Sequence[int], rate: Rate | None, clock: Clock | None
) -> str:
    """Plan every budget and write it down as Markdown.

    Args:
        make_job: Makes the job of a budget.
        budgets: Images per class.
        rate: For hours.
        clock: For measured hours, which then stand instead.
    """
    parts, summary = [], []
    for ipc in budgets:
        stages = plan(make_job(ipc))
        parts.append(f"#### {ipc} images per class\n\n{_table(stages, rate, clock)}")
        hours = [_hours(stage, rate, clock) for stage in stages]
        files = sum(sum(stage.files.values()) for stage in stages)
        known = [hour for hour in hours if hour is not None]
        lacking = any(
            hour is None and (stage.passes or stage.flops is None)
            for hour, stage in zip(hours, stages, strict=True)
        )
        flops = total_flops(stages)
        memory = max((stage.memory or 0 for stage in stages), default=0)
        row = [ipc, "unknown" if flops is None else _flops(flops), _bytes(files), _bytes(memory)]
        if rate or clock:
            row.append(("at least " if lacking else "") + _number(sum(known)))
        summary.append(row)
    heads = ["ipc", "FLOPs", "disk", "peak memory"] + (["hours"] if rate or clock else [])
    if len(budgets) > 1:
        parts.append(f"#### All\n\n{_pipes(heads, summary)}")
    return "\n\n".join([*parts, _notes(rate, clock)])


def _table(stages: Sequence[Stage], rate: Rate | None, clock: Clock | None) -> str:
    heads = ["stage", "network", "passes", "batch", "FLOPs", "disk", "peak memory"]
    heads += ["images/s here"] if clock else []
    heads += (["hours"] if rate or clock else []) + ["note"]
    rows = []
    for stage in stages:
        flops = "unknown" if stage.flops is None else _flops(stage.flops)
        files = ", ".join(f"{name} {_bytes(size)}" for name, size in stage.files.items() if size)
        row = [stage.name, stage.network, f"{stage.passes:,}" if stage.passes else ""]
        row += [str(stage.batch) if stage.passes else ""]
        row += [("at most " if stage.at_most else "") + flops, files]
        row.append("" if stage.memory is None else _bytes(stage.memory))
        if clock:
            seconds = clock.seconds(stage)
            row.append("" if seconds is None else _number(1 / seconds))
        if rate or clock:
            hours = _hours(stage, rate, clock)
            bound = "at most " if stage.at_most and hours is not None else ""
            row.append("" if hours is None else bound + _number(hours))
        rows.append([*row, stage.note])
    return _pipes(heads, rows)


def _hours(stage: Stage, rate: Rate | None, clock: Clock | None) -> float | None:
    if clock is not None:
        seconds = clock.seconds(stage)
        return None if seconds is None else seconds * stage.passes / 3600
    return None if rate is None or stage.flops is None else rate.hours(stage.flops)


def _notes(rate: Rate | None, clock: Clock | None) -> str:
    lines = [
        "FLOPs: counted on networks without values, two a multiply-add; products of matrices, convolutions, attention.",
        "Sums take bounds (at most) as they are.",
        "Stages that are cached already will not run again.",
        "Disk: raw bytes; latents in fp16, images in uint8, labels in fp16. Headers and compression are left out.",
        "Peak memory: weights, gradients, optimiser, live tensors of one batch, and what the stage keeps on the device.",
        "Not in it: scores of attention (fused kernels need none), workspaces of kernels, fragmentation.",
    ]
    if clock is not None:
        lines.append(
            f"Hours: measured on this machine ({clock.device}), {_TIMED} batches of each network after {_WARM}; without "
            "the reading of images, augmentation, optimisers and clustering."
        )
    elif rate is not None:
        lines.append(rate.text() + " Reading and augmenting of images come on top.")
    return "\n".join(f"- {line}" for line in lines)


def _pipes(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    right = {"passes", "batch", "FLOPs", "hours", "ipc", "images/s here"}
    align = ["right" if head in right else "left" for head in heads]
    return tabulate(rows, heads, "pipe", disable_numparse=True, colalign=align)


def _flops(value: int) -> str:
    """Write operations.

    Example:
        >>> _flops(2_500_000_000_000)
        '2.5 T'
    """
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return str(value)


def _bytes(value: int) -> str:
    """Write bytes.

    Example:
        >>> _bytes(6_000_000_000)
        '6 GB'
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value} B"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
