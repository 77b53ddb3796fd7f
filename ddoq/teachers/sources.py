"""Where a teacher comes from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddoq.console import say
from ddoq.costs.workload import Sizes, Stage
from ddoq.data.base import ImageDataModule
from ddoq.finite import is_finite
from ddoq.images import to_float
from ddoq.optimisation.trainers import device_of
from ddoq.smoke import Tiny
from ddoq.teachers.teacher import Teacher

SHOWN = 64  # test images, at most, on which a teacher has to have more than one answer


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


def passes_over_test(sizes: Sizes) -> int:
    """Count the test images that a teacher sees until it is had: all for its accuracy, some for :func:`notice_constant`."""
    return sizes.test_images + min(SHOWN, sizes.test_images)


@torch.no_grad()
def notice_constant(
    teacher: Teacher, data: ImageDataModule, trainer: Mapping[str, Any], images: int = SHOWN
) -> None:
    """Show a teacher some real test images; note in its ``warnings`` if it has one answer to all of them.

    Args:
        teacher: On the CPU, and so it is afterwards.
        data: The dataset, set up.
        trainer: Arguments of ``lightning.Trainer`` that say where to run.
        images: How many are shown at most, evenly spaced over the test split.

    Raises:
        NotFiniteError: If a logit is NaN or infinite.
    """
    total = len(data.test)
    count = min(images, total)
    positions = torch.arange(count) * total // count
    if len(data.test.labels[positions].unique()) < 2:
        return
    device = device_of(trainer)
    logits = teacher.to(device)(to_float(data.test.load(positions.tolist()).to(device))).cpu()
    teacher.cpu()
    teacher.check_logits(is_finite(logits))
    answers = logits.argmax(dim=1).unique()
    if len(answers) == 1:
        name = teacher.class_names[int(answers)]
        teacher.warnings.append(
            f"the teacher {teacher.arch} gives one answer, {name!r}, to all {count} real test images that it was shown"
        )


def announce(teacher: Teacher, how: str) -> None:
    """Print one line on a teacher and how it was had, and what was noticed, on rank 0."""
    say(f"teacher {teacher.arch}: {teacher.accuracy:.2%} on real test images, {how}")
    for text in teacher.warnings:
        say(f"warning: {text}")
