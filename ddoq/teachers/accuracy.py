"""Exact accuracy of a teacher: every image once, the same weight for each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from ddoq.console import Progress
from ddoq.data.base import ImageDataModule
from ddoq.data.splits import ImageSplit, TensorSplit
from ddoq.errors import UserError
from ddoq.images import to_float
from ddoq.optimisation.trainers import device_of
from ddoq.storage.damage import DamagedError, read_or_set_aside
from ddoq.storage.files import read_sealed, write_sealed
from ddoq.teachers.teacher import Teacher

TESTED_ON = "tested_on"  # in a teacher's record: the test images that its accuracy is of


@torch.no_grad()
def split_accuracies(
    teacher: Teacher, split: ImageSplit, batch_size: int = 256
) -> tuple[float, float]:
    """Measure top-1 and top-5 accuracy over a split.

    Args:
        teacher: Runs on the device where it is.
        split: uint8 images of the teacher's size, and labels.
        batch_size: Images at once; it changes nothing but speed and memory.

    Returns:
        Top-1 and top-5, both in [0, 1]. With fewer than five classes "top-5" is top-C, which is 1.

    Raises:
        UserError: If the split is empty or has labels that the teacher does not know.
        NotFiniteError: If a logit is NaN or infinite.
    """
    if len(split) == 0:
        raise UserError("Accuracy needs at least one image.")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= teacher.num_classes:
        wrong = low if low < 0 else high
        raise UserError(
            f"The teacher {teacher.arch} knows labels 0 to {teacher.num_classes - 1}, but an image has {wrong}."
        )
    device = next(iter(teacher.buffers())).device
    # sync_on_compute: where a process group exists, a metric would wait for ranks that are not here.
    top1, top5 = (
        MulticlassAccuracy(
            num_classes=teacher.num_classes,
            top_k=min(k, teacher.num_classes),
            average="micro",
            validate_args=False,
            sync_on_compute=False,
        ).to(device)
        for k in (1, 5)
    )
    progress = Progress(f"teacher {teacher.arch}: accuracy", len(split), unit="images")
    sound = torch.ones((), dtype=torch.bool, device=device)
    for start in range(0, len(split), batch_size):
        positions = range(start, min(start + batch_size, len(split)))
        logits = teacher(to_float(split.load(positions).to(device, non_blocking=True)))
        labels = split.labels[start : start + batch_size].to(device, non_blocking=True)
        top1.update(logits, labels)
        top5.update(logits, labels)
        sound &= torch.isfinite(logits).all()
        progress.update(positions.stop)
    teacher.check_logits(bool(sound))
    return float(top1.compute()), float(top5.compute())


def teacher_accuracy(
    teacher: Teacher, images: Tensor, labels: Tensor, batch_size: int = 256
) -> float:
    """Measure how often the teacher's first guess is the label.

    Args:
        teacher: Runs on the device where it is; images go there batch by batch.
        images: uint8 ``(n, 3, h, w)`` of the teacher's size.
        labels: int64 ``(n,)``.
        batch_size: Images at once.

    Returns:
        Top-1 accuracy in [0, 1].

    Raises:
        UserError: If there is no image, if the lengths differ, or if a label is unknown to the teacher.
    """
    if len(images) != len(labels):
        raise UserError(f"{len(images)} images, but {len(labels)} labels.")
    return split_accuracies(teacher, TensorSplit(images, labels), batch_size)[0]


def measure_again(
    teacher: Teacher, data: ImageDataModule, folder: Path, trainer: Mapping[str, Any]
) -> None:
    """Give a stored teacher its accuracy on the test images of now, where it was measured on others.

    Test images decide no weight, so that a teacher is not trained again for them; what was measured is kept beside it.

    Args:
        teacher: As it was loaded, on the CPU; its accuracies are replaced.
        data: The dataset, set up.
        folder: Where the teacher is stored.
        trainer: Arguments of ``lightning.Trainer`` that say where to run.

    Raises:
        UserError: If what was kept cannot be read; what is damaged is set aside, and measured again.
    """
    if teacher.training_record.get(TESTED_ON) == data.test_fingerprint:
        return
    path = folder / f"accuracy-{data.test_fingerprint}.json"
    kept = read_or_set_aside(path, _read_accuracies)
    if kept is None:
        kept = split_accuracies(teacher.to(device_of(trainer)), data.test)
        teacher.cpu()
        write_sealed(path, {"accuracy": kept[0], "accuracy_top5": kept[1]})
    teacher.accuracy, teacher.accuracy_top5 = kept


def _read_accuracies(path: Path) -> tuple[float, float]:
    record = read_sealed(path)
    try:
        return float(record["accuracy"]), float(record["accuracy_top5"])
    except (KeyError, TypeError, ValueError):
        raise DamagedError(path, "holds no accuracies") from None
