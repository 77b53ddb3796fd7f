"""How long stages take: reckoned from a device's peak rate, or measured here."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Protocol

import torch

from ddoq.costs.workload import Stage
from ddoq.errors import UserError, suggest
from ddoq.storage.yaml_text import parse_yaml

_WARM, _TIMED = 1, 3  # batches before the clock starts, and batches that count
# Names of precisions in trainer.precision, by what rates.yaml calls them.
_PRECISIONS = {"bf16": "bf16", "16": "fp16", "fp16": "fp16", "32": "fp32"}


class Speed(Protocol):
    """What gives the hours of stages."""

    def hours(self, stage: Stage) -> float | None:
        """Return the hours of a stage; None where nobody knows."""

    def text(self) -> str:
        """Say in words where hours come from."""


@dataclass(frozen=True)
class Rate:
    """How fast a device is.

    Attributes:
        device: Its name.
        precision: bf16, fp16 or fp32.
        peak: Dense peak in TFLOP/s.
        utilisation: Share of it that is sustained.

    Example:
        >>> Rate("a", "bf16", 100.0, 0.5).hours(Stage("encode", "VAE encoder", 1, 180 * 10**15))
        1.0
    """

    device: str
    precision: str
    peak: float
    utilisation: float

    def hours(self, stage: Stage) -> float | None:
        """Return the hours that the operations of a stage take."""
        if stage.flops is None:
            return None
        return stage.flops / (self.peak * 1e12 * self.utilisation) / 3600

    def text(self) -> str:
        """Say it in words."""
        return (
            f"Hours: {self.device}, {self.peak:g} TFLOP/s peak in {self.precision} times a utilisation of "
            f"{self.utilisation:g}, which is {self.peak * self.utilisation:.4g} TFLOP/s sustained. One device. "
            "Reading and augmenting of images come on top."
        )


@dataclass
class Clock:
    """Measures how fast stages run here; each kind of stage once.

    Attributes:
        device: Where.
        measured: Seconds an input, by network, stage and batch.
    """

    device: torch.device
    measured: dict[Any, float] = field(default_factory=dict)

    def hours(self, stage: Stage) -> float | None:
        """Return the hours of a stage at the speed of one batch of it."""
        seconds = self.seconds(stage)
        return None if seconds is None else seconds * stage.passes / 3600

    def seconds(self, stage: Stage) -> float | None:
        """Return the seconds that an input takes; None for a stage without a probe."""
        if stage.probe is None or stage.passes == 0:
            return None
        key = (stage.name, stage.network, stage.batch)
        if key not in self.measured:
            self.measured[key] = self._measure(stage.probe, stage.batch)
        return self.measured[key]

    def text(self) -> str:
        """Say it in words."""
        return (
            f"Hours: measured on this machine ({self.device}), {_TIMED} batches of each network after {_WARM}; without "
            "the reading of images, augmentation, optimisers and clustering."
        )

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


def find_rate(device: str, precision: str, utilisation: float | None = None) -> Rate:
    """Look a device up in ``rates.yaml``.

    Args:
        device: Its name.
        precision: bf16, fp16 or fp32, or what ``trainer.precision`` says.
        utilisation: Share of the peak rate that is sustained; that of the file where None.

    Raises:
        UserError: If device or precision are unknown, or the utilisation is no share.
    """
    text = resources.files("benchmarks.planning").joinpath("rates.yaml").read_text(encoding="utf-8")
    table = parse_yaml(text, "rates.yaml")
    devices: Mapping[str, Mapping[str, float]] = table["devices"]
    if device not in devices:
        raise UserError(f"Unknown device {device!r}. {suggest(device, devices)}")
    rates = devices[device]
    key = _PRECISIONS.get(precision.split("-")[0], precision)
    if key not in rates:
        raise UserError(f"No rate of {device} in {key!r}. {suggest(key, rates)}")
    share = table["utilisation"] if utilisation is None else utilisation
    if not 0 < share <= 1:
        raise UserError(f"--utilisation must be in (0, 1], not {share}.")
    return Rate(device, key, rates[key], share)
