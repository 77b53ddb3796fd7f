"""Where a teacher comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ddoq.console import say
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.smoke import Tiny
from ddoq.teachers.teacher import Teacher


class TeacherSource(Tiny, ABC):
    """Obtains a teacher for a dataset."""

    @abstractmethod
    def obtain(self, data: ImageDataModule, cache: Path, trainer: Mapping[str, Any]) -> Teacher:
        """Train or load a teacher and make sure that it fits the dataset.

        Args:
            data: The dataset, set up.
            cache: Root of the cache.
            trainer: Arguments of ``lightning.Trainer`` that say where to run.

        Returns:
            The teacher, on the CPU.

        Raises:
            UserError: If it cannot be had or does not fit the dataset.
        """

    def workload(self, sizes: Sizes) -> tuple[nn.Module | None, list[Stage]]:
        """Say what obtaining the teacher will take; ``ddoq-bench plan`` shows it.

        Args:
            sizes: Of the dataset.

        Returns:
            Its network without values, from normalised images to logits, None where it cannot be known; and the stages.
        """
        note = f"{type(self).__name__} does not say what it takes"
        return None, [Stage.unknown("teacher: obtain", note)]


def announce(teacher: Teacher, how: str) -> None:
    """Print one line on a teacher and how it was had, on rank 0."""
    say(f"teacher {teacher.arch}: {teacher.accuracy:.2%} on real test images, {how}")
